"""What a front end has to keep to, tried on a little noise before a cache is built."""

import numpy as np
import torch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.features.base import Feature

LEVELS = (0.3, 0.003, 0.03)  # of the rows of noise: what is drawn from the whole batch then shows
TOLERANCE = 1e-4  # of the largest number of a row; those of this package give the same bits


def check_rows(feature: Feature, seconds: float) -> None:
    """Refuse a front end whose rows depend on more than their own sound: each is kept once, and used for ever.

    Args:
        feature: the front end.
        seconds: length of its clips.

    Raises:
        UserError: it gives no features (B, C, F, T), others at each call, or others of a row by itself.
    """
    name = f"data.feature: {type(feature).__name__}"
    noise = torch.randn(len(LEVELS), round(seconds * feature.sample_rate), generator=torch.Generator().manual_seed(0))
    waveform = (noise * torch.tensor(LEVELS)[:, None]).clamp(-1, 1)
    with torch.inference_mode(), np.errstate(over="ignore"):
        try:
            first, again, alone = (feature(batch.clone()) for batch in (waveform, waveform, waveform[1:2]))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name} fails on waveforms {tuple(waveform.shape)}: {error}") from error
    if not isinstance(first, Tensor) or first.ndim != 4 or len(first) != len(LEVELS):
        found = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
        raise UserError(f"{name} makes {found} of waveforms {tuple(waveform.shape)}, where (B, C, F, T) is expected")
    if not _equal(first, again):
        raise UserError(
            f"{name} gives other numbers of the same sound at its next call, so that no cache can keep them"
        )
    if not _equal(first[1:2], alone):
        raise UserError(f"{name} gives a row by itself other numbers than in a batch: it is of that row's sound alone")


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether features are the same but for rounding."""
    if one.shape != other.shape:
        return False
    largest = [row.abs().nan_to_num(0, 0).max().item() if row.numel() else 0.0 for row in one]
    rows = zip(one.double(), other.double(), largest, strict=True)
    return all(torch.allclose(a, b, rtol=0.0, atol=TOLERANCE * most, equal_nan=True) for a, b, most in rows)

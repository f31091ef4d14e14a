"""A waveform made to have a given length."""

from typing import Literal

import numpy as np

from cry_lightning.errors import UserError

Fit = Literal["pad", "repeat", "crop"]


def fit_to_length(waveform: np.ndarray, n_samples: int, fit: Fit) -> np.ndarray:
    """A waveform (N,) made `n_samples` long: the centre of a longer one, a shorter one as `fit` says.

    "pad" puts zeros on both sides, "repeat" tiles from the beginning, "crop" refuses.

    Raises:
        UserError: the waveform is shorter and may only be cropped.
    """
    missing = n_samples - waveform.size
    if missing <= 0:
        return waveform[-missing // 2 :][:n_samples]
    if fit == "pad":
        padded = np.zeros(n_samples, waveform.dtype)
        padded[missing // 2 :][: waveform.size] = waveform
        return padded
    if fit == "repeat":
        return np.resize(waveform, n_samples)
    raise UserError(f"{waveform.size} samples where {n_samples} are needed; use the fit `pad` or `repeat`")

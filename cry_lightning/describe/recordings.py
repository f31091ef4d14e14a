"""Every recording heard once, in constant memory: its form, its levels, and whether it can be used at all."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cry_lightning import audio
from cry_lightning.audio.decoding import opened
from cry_lightning.errors import UserError
from cry_lightning.progress import progress_bar

SEED = 0  # of the sample
FRAME_S = 0.05
FRAMES_PER_BLOCK = 200
QUIET_DB = -50.0  # a frame below this counts as silence
FULL_SCALE_DB = -0.1  # a sample above this counts as clipped: 8-bit sound ends at -0.07 dB, and codecs overshoot
FORM = ("container", "codec", "sample_rate_hz", "channels")
MEASURES = ("duration_s", "rms_dbfs", "peak_dbfs", "silence_share", "clipped_share")


def survey(paths: Mapping[str, Path], sample: int | None = None) -> pd.DataFrame:
    """One row per recording, indexed by its name: form, measures, `sound` (a hash of its samples) and `fault`.

    Args:
        paths: name -> file.
        sample: decode only this many recordings, drawn at random; of the others, headers are read.
    """
    heard = set(paths)
    if sample is not None and sample < len(paths):
        heard = set(np.random.default_rng(SEED).choice(np.array(list(paths), dtype=object), sample, replace=False))
    bar = progress_bar(paths.items(), "recordings", unit="file", leave=False)
    index = pd.Index(list(paths), name="recording", dtype=object)
    table = pd.DataFrame([examine(path, name in heard) for name, path in bar], index=index)
    table = table.reindex(columns=[*FORM, *MEASURES, "sound", "fault"])
    return table.fillna({"sound": "", "fault": ""})


def examine(path: Path, hear: bool) -> dict[str, Any]:
    """What is known of one recording; where it cannot be used, the `fault` says why."""
    try:
        form = form_of(path)
        heard = measure(path, form["sample_rate_hz"]) if hear else {"duration_s": audio.info(path).duration_s}
    except (UserError, OSError) as error:
        return {"fault": str(error).removeprefix(f"{path}: ")}
    return form | heard


def form_of(path: Path) -> dict[str, Any]:
    """Container, codec, sample rate and channels, from the header."""
    with opened(path) as reader:
        return dict(zip(FORM, (reader.container, reader.codec, reader.sample_rate, reader.n_channels), strict=True))


def measure(path: Path, sample_rate: int) -> dict[str, Any]:
    """The measures of one recording, at its own sample rate (Hz), over the mean of its channels.

    Raises:
        AudioError: it cannot be decoded, or is silent or too short to be used.
    """
    frame = max(1, round(FRAME_S * sample_rate))
    n_samples, n_quiet, n_clipped, energy, peak = 0, 0, 0, 0.0, 0.0
    sound = hashlib.sha256(str(sample_rate).encode())
    for block in audio.blocks(path, sample_rate, FRAMES_PER_BLOCK * frame / sample_rate):
        starts = np.arange(0, block.size, frame)
        lengths = np.diff(starts, append=block.size)
        frame_energy = np.add.reduceat(np.square(block, dtype=np.float64), starts)
        magnitude = np.abs(block)
        n_samples += block.size
        n_quiet += int(lengths[frame_energy < 10 ** (QUIET_DB / 10) * lengths].sum())
        n_clipped += int((magnitude >= 10 ** (FULL_SCALE_DB / 20)).sum())
        energy += frame_energy.sum()
        peak = max(peak, float(magnitude.max()))
        sound.update(block.tobytes())
    if n_samples < audio.SHORTEST_S * sample_rate:
        raise audio.AudioError(f"{path}: {n_samples} samples are too short for a clip")
    if not peak:
        raise audio.AudioError(f"{path}: silent, every sample is zero")
    figures = (
        n_samples / sample_rate,
        10 * np.log10(energy / n_samples),
        20 * np.log10(peak),
        n_quiet / n_samples,
        n_clipped / n_samples,
    )
    return dict(zip(MEASURES, figures, strict=True)) | {"sound": sound.hexdigest()[:16]}

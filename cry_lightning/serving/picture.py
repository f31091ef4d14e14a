"""The picture of an answer: waveform and mel spectrogram, cries, and what the answer depends on."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from cry_lightning.annotations.spans import Span
from cry_lightning.features import LogMel
from cry_lightning.features.mel import decibels

LEFT, RIGHT = 46, 8  # px, of the margins
HEAD, WAVE, GAP, MAP, BELOW = 16, 56, 8, 160, 36  # px, from top to bottom
WIDTHS = (280, 1200)  # px
FRAME_S, HOP_S, N_MELS = 0.032, 0.01, 64
RANGE_DB = 70.0  # below the loudest
OVERLAY = (230, 120, 0)  # orange, which on grey nobody takes for another colour
STRONGEST = 0.995  # quantile that is drawn as strongest
SMOOTHED = 5  # bands and frames
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
CLOSEST = 55  # px, of the numbers below
MARKED_HZ = (250, 500, 1000, 2000, 4000, 8000)


@dataclass(frozen=True)
class ClipImage:
    """What a template draws, in px."""

    width: int
    height: int
    left: int  # edges of the spectrogram
    inner: int  # its width
    top: int
    bottom: int
    wave: str  # path of SVG
    level: str  # data URI of a PNG
    saliency: str  # the same, or empty
    units: list[tuple[int, float, float]]  # number, left edge and width
    times: list[tuple[float, str]]
    frequencies: list[tuple[float, str]]


def picture(
    waveform: np.ndarray, rate: int, depends: np.ndarray | None, spans: Sequence[Span], width: int
) -> ClipImage:
    """Of a waveform (N,), with its saliency (N,) and the spans of cries in it, for a page of this width."""
    width = int(np.clip(width, *WIDTHS))
    inner, duration_s = width - LEFT - RIGHT, waveform.size / rate
    level, saliency = maps(waveform, depends, rate, inner)
    grey = 255 * (1 - ((level - level.max()) / RANGE_DB + 1).clip(0, 1))
    overlay = "" if saliency is None else _png(_tinted(saliency))
    scale, top = inner / max(duration_s, 1e-9), HEAD + WAVE + GAP
    step_s = next((step for step in STEPS_S if step * scale >= CLOSEST), STEPS_S[-1])
    times = [(round(LEFT + time * scale, 1), f"{time:g}") for time in np.arange(0, duration_s + 1e-9, step_s).round(1)]
    shown = [(max(begin, 0), min(end, duration_s)) for begin, end in spans if begin < duration_s]
    edges = [(round(LEFT + begin * scale, 1), round((end - begin) * scale, 1)) for begin, end in shown]
    highest = rate / 2
    marked = [(round(top + MAP * (1 - _mel(hz) / _mel(highest)), 1), hz) for hz in MARKED_HZ if hz < 0.9 * highest]
    return ClipImage(
        width=width,
        height=top + MAP + BELOW,
        left=LEFT,
        inner=inner,
        top=top,
        bottom=top + MAP,
        wave=_path(waveform, inner),
        level=_png(grey.astype(np.uint8)),
        saliency=overlay,
        units=[(number, *edge) for number, edge in enumerate(edges, 1)],
        times=times,
        frequencies=[(y, f"{hz / 1000:g}") for y, hz in marked],
    )


def maps(
    waveform: np.ndarray, depends: np.ndarray | None, rate: int, n_columns: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Levels in dB, and shares of the strongest saliency, by mel band from high to low and column of the picture.

    The saliency of a band and frame is |Re(X G*)|, of the spectra of waveform and gradient: how the log-odds change
    where that part alone becomes louder.
    """
    bands = LogMel(rate, round(FRAME_S * rate), max(1, round(HOP_S * rate)), N_MELS, 0.0, rate / 2)
    sound = _spectra(waveform, bands)
    level = _columns(decibels((sound.abs().square() @ bands.mel).clone()), n_columns)
    if depends is None or not depends.any():
        return level, None
    product = ((sound * _spectra(depends, bands).conj()).real @ bands.mel).abs()
    smooth = avg_pool2d(product[None, None], SMOOTHED, 1, SMOOTHED // 2)[0, 0]
    shares = _columns(smooth, n_columns)
    return level, (shares / max(float(np.quantile(shares, STRONGEST)), 1e-30)).clip(0, 1)


def _spectra(waveform: np.ndarray, bands: LogMel) -> Tensor:
    """Complex (T, F), one frame at least."""
    margin = bands.n_fft // 2
    padded = pad(torch.from_numpy(waveform)[None], (margin, margin + bands.hop_length))[0]
    return torch.fft.rfft(padded.unfold(0, bands.n_fft, bands.hop_length) * bands.window)


def _columns(frames: Tensor, n_columns: int) -> np.ndarray:
    """Frames (T, M) as a picture (M, columns), of which no frame is left out."""
    rows = frames.T.flip(0)[None]
    mode = torch.nn.functional.adaptive_max_pool1d if rows.shape[-1] > n_columns else interpolate
    return mode(rows, n_columns)[0].numpy()


def _tinted(shares: np.ndarray) -> np.ndarray:
    """Shares (H, W) as pixels (H, W, 4) of one colour, the more opaque the larger."""
    colour = np.broadcast_to(np.array(OVERLAY, np.uint8), (*shares.shape, 3))
    return np.dstack([colour, (210 * shares).astype(np.uint8)])


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _path(waveform: np.ndarray, n_columns: int) -> str:
    """Of the least and the greatest sample in each column, as high as the loudest allows."""
    parts = np.array_split(waveform, min(n_columns, max(waveform.size, 1)))
    loudest, middle, most = max(float(np.abs(waveform).max(initial=0)), 1e-9), HEAD + WAVE / 2, WAVE / 2 - 1
    heights = [(part.min(initial=0) / loudest, part.max(initial=0) / loudest) for part in parts]
    step = n_columns / len(parts)
    return "".join(
        f"M{LEFT + (place + 0.5) * step:.1f} {middle - high * most:.1f}V{middle - low * most + 0.5:.1f}"
        for place, (low, high) in enumerate(heights)
    )


def _mel(hz: float) -> float:
    """Slaney's scale, as the bands have it."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000) / np.log(6.4))

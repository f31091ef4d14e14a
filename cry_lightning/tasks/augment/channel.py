"""What rooms, microphones and phones do to waveforms (B, N): reverberation, band limits, clipping, lossy coding."""

import io
import math
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.tasks.augment.spectrogram import WAVEFORMS, Sometimes, check_axes, uniform

Range = tuple[float, float]
EDGE = 6  # order of the edges of a band, as of a Butterworth filter
FULL_SCALE = 32767
TAIL_S = 0.04  # of silence behind a sound that is coded


class Changed(Sometimes):
    """What these augmentations share: some rows of the waveforms (B, N) are changed, the others stay as they are.

    Args:
        probability: of changing a row.
        **ranges: lowest and highest value of what is drawn, by its name.

    Raises:
        UserError: the probability is none, or a range does not ascend.
    """

    def __init__(self, probability: float, **ranges: Range) -> None:
        super().__init__(probability)
        for name, (low, high) in ranges.items():
            if not 0 <= low <= high < math.inf:
                raise UserError(f"{type(self).__name__}: {name} {low, high} must be at least 0, finite, and ascend")

    @abstractmethod
    def change(self, rows: Tensor) -> Tensor:
        """The rows (n, N), each changed by itself."""

    def forward(self, batch: Tensor) -> Tensor:
        """Waveforms (B, N), some of them changed."""
        check_axes(self, batch, WAVEFORMS)
        chosen = self.chosen(batch).squeeze(1).nonzero().squeeze(1)
        if not len(chosen):
            return batch
        return batch.index_copy(0, chosen, self.change(batch[chosen].float()).to(batch.dtype))


class RoomResponse(Changed):
    """Lets waveforms (B, N) sound as in a room: the direct sound, and a tail of noise that decays exponentially.

    Args:
        sample_rate: of the waveforms, Hz.
        decay_s: lowest and highest time in which the tail falls by 60 dB.
        direct_db: lowest and highest ratio of the direct sound's energy to that of the tail.
        probability: see `Changed`.

    Source: Polack 1988, "La transmission de l'énergie sonore dans les salles": late reverberation as decaying noise.
    """

    def __init__(
        self, sample_rate: int, decay_s: Range = (0.1, 0.6), direct_db: Range = (0.0, 15.0), probability: float = 0.5
    ) -> None:
        super().__init__(probability, decay_s=decay_s, direct_db=direct_db)
        if decay_s[0] <= 0:
            raise UserError(f"RoomResponse: decay_s {decay_s} must be above 0")
        self.sample_rate = sample_rate
        self.decay_s, self.direct_db = decay_s, direct_db

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) in a room of its own; the direct sound stays where and as loud as it is."""
        length = min(round(self.decay_s[1] * self.sample_rate), rows.shape[1]) + 1
        seconds = torch.arange(length, device=rows.device) / self.sample_rate
        tail = torch.randn(len(rows), length, device=rows.device) * 10 ** (-3 * seconds / uniform(rows, *self.decay_s))
        tail[:, 0] = 0
        energy = tail.square().sum(1, keepdim=True).clamp(min=torch.finfo(tail.dtype).tiny)
        response = tail * (10 ** (-uniform(rows, *self.direct_db) / 10) / energy).sqrt()
        response[:, 0] = 1
        n_fft = rows.shape[1] + length - 1
        spectrum = torch.fft.rfft(rows, n_fft) * torch.fft.rfft(response, n_fft)
        return torch.fft.irfft(spectrum, n_fft)[:, : rows.shape[1]]


class BandLimit(Changed):
    """Lets through a random band of waveforms (B, N) alone, as small microphones and loudspeakers do.

    Args:
        sample_rate: of the waveforms, Hz.
        low_hz: lowest and highest lower edge.
        high_hz: lowest and highest upper edge; above half the sample rate there is none.
        probability: see `Changed`.
    """

    def __init__(
        self,
        sample_rate: int,
        low_hz: Range = (0.0, 400.0),
        high_hz: Range = (2500.0, 4000.0),
        probability: float = 0.5,
    ) -> None:
        super().__init__(probability, low_hz=low_hz, high_hz=high_hz)
        if low_hz[1] >= high_hz[0]:
            raise UserError(f"BandLimit: low_hz {low_hz} must lie below high_hz {high_hz}")
        self.sample_rate = sample_rate
        self.low_hz, self.high_hz = low_hz, high_hz

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) times the response of a band of its own, -3 dB at the edges, without delay."""
        hertz = torch.fft.rfftfreq(rows.shape[1], 1 / self.sample_rate, device=rows.device)
        low, high = uniform(rows, *self.low_hz), uniform(rows, *self.high_hz)
        floor = torch.finfo(rows.dtype).eps
        power = 1 / ((1 + (hertz / high) ** (2 * EDGE)) * (1 + (low / hertz.clamp(min=floor)) ** (2 * EDGE)))
        return torch.fft.irfft(torch.fft.rfft(rows) * power.sqrt(), rows.shape[1])


class Clipping(Changed):
    """Cuts off the peaks of waveforms (B, N), as an input that is set too high does.

    Args:
        cut_db: lowest and highest depth of the cut below each row's own peak.
        probability: see `Changed`.
    """

    def __init__(self, cut_db: Range = (0.0, 15.0), probability: float = 0.5) -> None:
        super().__init__(probability, cut_db=cut_db)
        self.cut_db = cut_db

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) within limits of its own."""
        limit = rows.abs().amax(1, keepdim=True) * 10 ** (-uniform(rows, *self.cut_db) / 20)
        return rows.clamp(-limit, limit)


class Format(NamedTuple):
    """A lossy format, as FFmpeg knows it."""

    encoder: str
    container: str
    rates: tuple[int, ...]  # sample rates that it codes
    bit_rates: tuple[int, ...]  # per second
    delay: int = 0  # samples by which the sound comes later


FORMATS = {
    "amr": Format("libopencore_amrnb", "amr", (8000,), (4750, 5900, 7950, 12200), delay=40),
    "mp3": Format("libmp3lame", "mp3", (8000, 16000, 22050, 32000, 44100, 48000), (8000, 16000, 24000, 32000)),
    "opus": Format("libopus", "ogg", (8000, 16000, 24000, 48000), (6000, 12000, 24000)),
}


class Codec(Changed):
    """Codes waveforms (B, N) with losses and decodes them again, as phones and messengers do.

    Each row is coded by FFmpeg on the processor, row beside row in threads: some hundred times as slow as the others.

    Args:
        sample_rate: of the waveforms, Hz.
        formats: of which each row meets one, at one of its bit rates; `amr` (AMR-NB) codes at 8,000 Hz whatever
            the waveforms have.
        probability: see `Changed`.

    Raises:
        UserError: there is no such format.
    """

    def __init__(
        self,
        sample_rate: int,
        formats: Sequence[Literal["amr", "mp3", "opus"]] = ("amr", "mp3", "opus"),
        probability: float = 0.5,
    ) -> None:
        super().__init__(probability)
        if not formats or set(formats) - FORMATS.keys():
            raise UserError(f"Codec: formats {list(formats)} must be some of {', '.join(FORMATS)}")
        self.sample_rate = sample_rate
        self.choices = [(FORMATS[name], bits) for name in formats for bits in FORMATS[name].bit_rates]

    def change(self, rows: Tensor) -> Tensor:
        """Each row (n, N) coded at its own bit rate, none clipped on the way."""
        drawn = torch.randint(len(self.choices), (len(rows),)).tolist()
        peaks = rows.abs().amax(1, keepdim=True).clamp(min=1.0)  # formats hold no sample above 1
        sounds = (rows / peaks).detach().cpu().numpy()
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            coded = list(pool.map(lambda sound, n: decoded(sound, self.sample_rate, *self.choices[n]), sounds, drawn))
        return torch.from_numpy(np.stack(coded)).to(rows) * peaks


def decoded(sound: np.ndarray, sample_rate: int, how: Format, bits: int) -> np.ndarray:
    """A sound (N,) after coding and decoding, as long and at the same place.

    Args:
        sound: samples between -1 and 1.
        sample_rate: of the sound, Hz.
        how: the format; its lowest rate that is not below `sample_rate` is coded, or else its highest.
        bits: per second.
    """
    rate = next((rate for rate in how.rates if rate >= sample_rate), how.rates[-1])
    file = io.BytesIO()
    with av.open(file, "w", format=how.container) as container:
        stream = container.add_stream(how.encoder, rate=rate, bit_rate=bits, layout="mono")
        assert isinstance(stream, av.AudioStream)
        longer = np.pad(sound, (0, round(TAIL_S * sample_rate)))  # the end comes out after the delay
        samples = (longer * FULL_SCALE).round().astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = sample_rate
        stream.codec_context.open()
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(piece))
    file.seek(0)
    with av.open(file, "r") as container:
        resampler = av.AudioResampler("flt", "mono", sample_rate)
        pieces = [piece for frame in (*container.decode(audio=0), None) for piece in resampler.resample(frame)]
    found = np.concatenate([piece.to_ndarray()[0] for piece in pieces])[round(how.delay * sample_rate / rate) :]
    return np.pad(found[: len(sound)], (0, max(0, len(sound) - len(found))))

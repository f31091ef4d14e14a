"""Front ends on mel energies: honk's MFCC, and the log-mel of PANNs, SpeechBrain, VGGish and EfficientAT."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, threshold

from cry_lightning.audio.loading import torchaudio
from cry_lightning.console import UserError
from cry_lightning.features.base import Feature, in_blocks, power_of

FLOOR = 1e-10  # energy, -100 dB: just below what the rounding of 16-bit samples leaves in a LogMel
RANGE_DB = 80.0  # of an Fbank
VGGISH_FRAME = 400  # samples
VGGISH_F_MIN, VGGISH_F_MAX = 125.0, 7500.0  # Hz
VGGISH_OFFSET = 0.01  # added to the mel magnitudes, so that silence lies at log(0.01)
EFFICIENTAT_WINDOW = 800  # samples
PRE_EMPHASIS = 0.97
EFFICIENTAT_OFFSET = 1e-5  # added to the mel energies, so that silence lies at (log(1e-5) + 4.5) / 5
MEAN, SPREAD = -4.5, 5.0  # that the logarithms are brought to about 0 and 1 by


class MelFeature(Feature):
    """Features (B, 1, F, T), T = 1 + N // hop_length, that `compress` makes of mel energies.

    Frames are centred, the waveform being mirrored at its ends; periodic Hann window, power spectra, Slaney filters.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames.
        n_mels: mel bands between `f_min` and `f_max` (Hz).

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.
    """

    window: Tensor  # (n_fft,)
    mel: Tensor  # (n_fft // 2 + 1, n_mels)
    mel_twice: Tensor  # (2 * (n_fft // 2 + 1), n_mels): of the real and of the imaginary part

    def __init__(
        self,
        sample_rate: int = 8000,
        n_fft: int = 240,
        hop_length: int = 80,
        n_mels: int = 40,
        f_min: float = 20.0,
        f_max: float = 4000.0,
    ) -> None:
        super().__init__()
        self.check_sizes(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        if not 0 <= f_min < f_max <= sample_rate / 2:
            raise UserError(
                f"{type(self).__name__}: f_min {f_min} and f_max {f_max} Hz must lie in order between 0 and half the "
                f"sample_rate, {sample_rate / 2} Hz"
            )
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.f_min = f_min
        self.f_max = f_max
        with torch.device("cpu"):  # also where a network is drafted without numbers: filters are looked into
            self.register_buffer("window", self.make_window(), persistent=False)
            self.register_buffer("mel", self.make_filters(), persistent=False)
            self.register_buffer("mel_twice", self.mel.repeat_interleave(2, 0), persistent=False)
            self.groups = in_groups(self.mel_twice)

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        return torch.hann_window(self.n_fft)

    def with_ends(self, waveform: Tensor, margin: int) -> Tensor:
        """Waveforms (B, margin + N + margin), the sound being mirrored: what `pad` does, in a fifth of its time."""
        before, after = waveform[:, 1 : margin + 1], waveform[:, -margin - 1 : -1]
        return torch.cat([before.flip(1), waveform, after.flip(1)], dim=1)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of equal area."""
        filters: Tensor = torchaudio("functional").melscale_fbanks(
            self.n_fft // 2 + 1,
            self.f_min,
            self.f_max,
            self.n_mels,
            self.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        return filters

    @abstractmethod
    def compress(self, energy: Tensor) -> Tensor:
        """Features (B, F, T) of mel energies (B, T, n_mels), which it may overwrite."""

    def forward(self, waveform: Tensor) -> Tensor:
        """Features (B, 1, F, T) of waveforms (B, N), in float32 under autocast too."""
        if waveform.ndim != 2:
            raise UserError(f"{type(self).__name__}: wants waveforms of shape (B, N), not {tuple(waveform.shape)}")
        margin = self.n_fft // 2
        if waveform.shape[1] <= margin:
            raise UserError(
                f"{type(self).__name__}: {waveform.shape[1]} samples are too few: n_fft {self.n_fft} wants {margin + 1}"
            )
        # The log of a bfloat16 product would be off by tenths.
        with torch.autocast(waveform.device.type, enabled=False):
            return in_blocks(self._features, waveform.float(), self.n_fft / self.hop_length)

    def _features(self, waveform: Tensor) -> Tensor:
        padded = self.with_ends(waveform, self.n_fft // 2)
        spectrum = torch.fft.rfft(padded.unfold(1, self.n_fft, self.hop_length) * self.window)
        squares = torch.view_as_real(spectrum).square_().flatten(-2)  # the product adds those of each frequency up
        return self.compress(in_bands(squares, self.mel_twice, self.groups)).unsqueeze(1)


def in_groups(filters: Tensor) -> list[tuple[slice, slice]]:
    """Some bands at a time of filters (F, n_mels), as columns, each with the rows that they have any weight on.

    Filters being triangles, four groups leave out three quarters of the products with nothing.
    """
    groups = []
    for bands in torch.arange(filters.shape[1]).chunk(4):
        columns = slice(int(bands[0]), int(bands[-1]) + 1)
        rows = filters[:, columns].any(dim=1).nonzero().flatten().tolist() or [0]
        groups.append((slice(rows[0], rows[-1] + 1), columns))
    return groups


def in_bands(spectrum: Tensor, filters: Tensor, groups: list[tuple[slice, slice]]) -> Tensor:
    """Spectra (..., F) times filters (F, n_mels), group by group."""
    return torch.cat([spectrum[..., rows] @ filters[rows, columns] for rows, columns in groups], dim=-1)


class MFCC(MelFeature):
    """MFCCs (B, 1, n_mfcc, T), T = 1 + N // hop_length: mel energies, natural log, orthonormal DCT-II.

    The log is taken only where the mel energy is above zero, so digital silence gives exact zeros.

    Args:
        n_mfcc: coefficients kept, at most `n_mels`.
        **kwargs: see `MelFeature`.

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.

    Source: Tang & Lin 2018, "Deep residual learning for small-footprint keyword spotting"; padding and
    window are the defaults of librosa at that time.
    """

    dct: Tensor  # (n_mfcc, n_mels)

    def __init__(self, n_mfcc: int = 40, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 1 <= n_mfcc <= self.n_mels:
            raise UserError(f"MFCC: n_mfcc must lie between 1 and n_mels ({self.n_mels}), not {n_mfcc}")
        self.n_mfcc = n_mfcc
        with torch.device("cpu"):
            dct = torchaudio("functional").create_dct(n_mfcc, self.n_mels, norm="ortho").T.contiguous()
        self.register_buffer("dct", dct, persistent=False)

    def compress(self, energy: Tensor) -> Tensor:
        """MFCCs (B, n_mfcc, T) of mel energies (B, T, n_mels)."""
        log_energy = threshold(energy, 0.0, 1.0, inplace=True).log_()
        return self.dct @ log_energy.transpose(1, 2)


class LogMel(MelFeature):
    """Log-mel spectrograms (B, 1, n_mels, T) in dB, no lower than -100.

    PANNs' own is that of 16 kHz, n_fft 512, hop 160 and 64 bands from 50 to 8000 Hz.

    Source: Kong et al. 2020, "PANNs: large-scale pretrained audio neural networks for audio pattern recognition".
    """

    def compress(self, energy: Tensor) -> Tensor:
        """Decibels (B, n_mels, T) of mel energies (B, T, n_mels)."""
        return decibels(energy).transpose(1, 2).contiguous()


class Fbank(MelFeature):
    """Log-mel spectrograms (B, 1, n_mels, T) in dB as SpeechBrain computes them, within 80 dB of each clip's loudest.

    What differs from LogMel: Hamming window, zeros around the waveform, the HTK mel scale, and filters of unit height
    that are symmetric in Hz, as wide as the distance to the band below. The subtraction of each band's mean, which
    belongs to it, is tasks.MeanSubtraction: it acts on the crop that the network sees.

    Source: Ravanelli et al. 2021, "SpeechBrain: a general-purpose speech toolkit"; Gorin et al. 2023,
    "Self-supervised learning for infant cry analysis".
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        hop_length: int = 160,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)

    def with_ends(self, waveform: Tensor, margin: int) -> Tensor:
        """Waveforms (B, margin + N + margin), with zeros around the sound."""
        return pad(waveform, (margin, margin))

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        return torch.hamming_window(self.n_fft)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of equal height."""
        lowest, highest = (2595 * math.log10(1 + f_hz / 700) for f_hz in (self.f_min, self.f_max))
        mels = torch.linspace(lowest, highest, self.n_mels + 2, dtype=torch.float64)
        corners = 700 * (10 ** (mels / 2595) - 1)
        centre, width = corners[1:-1], corners.diff()[:-1]
        frequency = torch.linspace(0, self.sample_rate // 2, self.n_fft // 2 + 1, dtype=torch.float64)
        return (1 - (frequency[:, None] - centre).abs() / width).clamp(min=0).float()

    def compress(self, energy: Tensor) -> Tensor:
        """Decibels (B, n_mels, T) of mel energies (B, T, n_mels)."""
        level = decibels(energy).transpose(1, 2)
        return level.maximum(level.amax((1, 2), keepdim=True) - RANGE_DB).contiguous()


def decibels(energy: Tensor) -> Tensor:
    """Levels in dB of energies of any shape, which are overwritten."""
    return energy.clamp_(min=FLOOR).log10_().mul_(10)


class VGGishLogMel(Feature):
    """VGGish's log-mel spectrograms (B, 1, 64, T) of sound at 16 kHz, T = 1 + (N - 400) // 160.

    Frames of 25 ms every 10 ms, all of them inside the waveform; periodic Hann window; magnitudes of the 512-point
    spectrum; triangles on the HTK mel scale, straight in mel; natural log. Computed in float64: a frame's rounding
    errors in float32 would reach the quietest bands.

    The network takes 96 frames at once, 15,600 samples: `clip_s: 0.975` in the data. The corpus cuts longer clips by
    `window_s: 0.975` and `hop_s: 0.96`, without pre-emphasis and z-score into the very patches of VGGish's own code;
    what is left over at the end is dropped. A shorter clip becomes one patch as the data's `fit` says.

    Args:
        pre_emphasis: coefficient a of y[n] = x[n] - a x[n - 1], y[0] = x[0], applied first; 0 leaves it out.
        z_score: then bring each waveform to mean 0 and standard deviation 1, a constant one to zeros. The zeros of the
            fit "pad" count, so that a short clip comes out louder than under "repeat".

    Raises:
        UserError: for a coefficient outside 0 to 1, or a waveform shorter than a frame.

    Source: Hershey et al. 2017, "CNN architectures for large-scale audio classification", as its released code has it;
    pre-emphasis and z-score: Zhao et al. 2020.
    """

    sample_rate = 16000
    hop_length = 160
    n_fft = 512
    n_mels = 64
    window: Tensor  # (VGGISH_FRAME,)
    mel: Tensor  # (n_fft // 2 + 1, n_mels)

    def __init__(self, pre_emphasis: float = 0.0, z_score: bool = False) -> None:
        super().__init__()
        if not 0 <= pre_emphasis <= 1:
            raise UserError(f"VGGishLogMel: pre_emphasis must lie between 0 and 1, not {pre_emphasis}")
        self.pre_emphasis = pre_emphasis
        self.z_score = z_score
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(VGGISH_FRAME, dtype=torch.float64), persistent=False)
            self.register_buffer("mel", self.make_filters(), persistent=False)
            self.groups = in_groups(self.mel)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of height 1 at most."""
        bins = in_mel(torch.linspace(0, self.sample_rate / 2, self.n_fft // 2 + 1, dtype=torch.float64))
        lowest, highest = in_mel(torch.tensor([VGGISH_F_MIN, VGGISH_F_MAX], dtype=torch.float64)).tolist()
        corners = torch.linspace(lowest, highest, self.n_mels + 2, dtype=torch.float64)
        spacing = (highest - lowest) / (self.n_mels + 1)
        return (1 - (bins[:, None] - corners[1:-1]).abs() / spacing).clamp(min=0)

    def prepared(self, waveform: Tensor) -> Tensor:
        """Waveforms (B, N), pre-emphasised and standardised where asked for."""
        if self.pre_emphasis:
            waveform = waveform - self.pre_emphasis * pad(waveform[:, :-1], (1, 0))
        if self.z_score:
            waveform = waveform - waveform.mean(1, keepdim=True)
            # Below 1e-9 there is only rounding: one 16-bit step in 10 s has 8e-8.
            waveform = waveform / waveform.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9)
        return waveform

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrograms (B, 1, 64, T) of waveforms (B, N)."""
        if waveform.ndim != 2 or waveform.shape[1] < VGGISH_FRAME:
            raise UserError(
                f"VGGishLogMel: wants waveforms of shape (B, N), N at least {VGGISH_FRAME}, not {tuple(waveform.shape)}"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            return in_blocks(self._features, waveform.double(), VGGISH_FRAME / self.hop_length)

    def _features(self, waveform: Tensor) -> Tensor:
        frames = self.prepared(waveform).unfold(1, VGGISH_FRAME, self.hop_length) * self.window
        magnitude = power_of(torch.fft.rfft(frames, self.n_fft)).sqrt_()
        log_mel = in_bands(magnitude, self.mel, self.groups).add_(VGGISH_OFFSET).log_()
        return log_mel.float().transpose(1, 2).unsqueeze(1).contiguous()


def in_mel(frequency_hz: Tensor) -> Tensor:
    """HTK mels, up to a constant factor, of frequencies of any shape."""
    return (frequency_hz / 700).log1p()


class EfficientATLogMel(MelFeature):
    """EfficientAT's log-mel spectrograms (B, 1, n_mels, T) of sound at 32 kHz, T = 1 + (N - 1) // hop_length.

    Pre-emphasis y[n] = x[n + 1] - 0.97 x[n], one sample shorter; frames of n_fft samples, mirrored at the ends, under a
    symmetric Hann window of 800 samples in their middle; power; Kaldi's mel bands; natural log; (x + 4.5) / 5.

    Args:
        sample_rate: Hz.
        n_fft: frame and Fourier transform length, in samples.
        hop_length: samples between frames.
        n_mels: mel bands between `f_min` and `f_max` (Hz).

    Raises:
        UserError: for arguments that contradict each other, or a waveform too short to be mirrored.

    Source: Schmid et al. 2023, "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation", as
    its released code has it.
    """

    def __init__(
        self,
        sample_rate: int = 32000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 128,
        f_min: float = 0.0,
        f_max: float = 15000.0,
    ) -> None:
        super().__init__(sample_rate, n_fft, hop_length, n_mels, f_min, f_max)

    def make_window(self) -> Tensor:
        """Window (n_fft,) of every frame."""
        before = (self.n_fft - EFFICIENTAT_WINDOW) // 2
        return pad(
            torch.hann_window(EFFICIENTAT_WINDOW, periodic=False), (before, self.n_fft - EFFICIENTAT_WINDOW - before)
        )

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands, none of half the sample rate."""
        no_warp = (100.0, -500.0, 1.0)
        banks = torchaudio("compliance.kaldi").get_mel_banks(
            self.n_mels, self.n_fft, float(self.sample_rate), self.f_min, self.f_max, *no_warp
        )
        return pad(banks[0], (0, 1)).T.contiguous()

    def compress(self, energy: Tensor) -> Tensor:
        """Features (B, n_mels, T) of mel energies (B, T, n_mels)."""
        return energy.add_(EFFICIENTAT_OFFSET).log_().sub_(MEAN).div_(SPREAD).transpose(1, 2).contiguous()

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrograms (B, 1, n_mels, T) of waveforms (B, N)."""
        waveform = waveform.float()
        return super().forward(waveform[..., 1:] - PRE_EMPHASIS * waveform[..., :-1])

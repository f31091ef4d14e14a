"""Log-mel spectrograms as VGGish takes them."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from cry_lightning.console import UserError
from cry_lightning.features.base import Feature, in_blocks, power_of

FRAME = 400  # samples
F_MIN, F_MAX = 125.0, 7500.0  # Hz
OFFSET = 0.01  # added to the mel magnitudes, so that silence lies at log(0.01)


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
    window: Tensor  # (FRAME,)
    mel: Tensor  # (n_fft // 2 + 1, n_mels)

    def __init__(self, pre_emphasis: float = 0.0, z_score: bool = False) -> None:
        super().__init__()
        if not 0 <= pre_emphasis <= 1:
            raise UserError(f"VGGishLogMel: pre_emphasis must lie between 0 and 1, not {pre_emphasis}")
        self.pre_emphasis = pre_emphasis
        self.z_score = z_score
        with torch.device("cpu"):
            self.register_buffer("window", torch.hann_window(FRAME, dtype=torch.float64), persistent=False)
            self.register_buffer("mel", self.make_filters(), persistent=False)

    def make_filters(self) -> Tensor:
        """Weights (n_fft // 2 + 1, n_mels) of the mel bands: triangles of height 1 at most."""
        bins = in_mel(torch.linspace(0, self.sample_rate / 2, self.n_fft // 2 + 1, dtype=torch.float64))
        lowest, highest = in_mel(torch.tensor([F_MIN, F_MAX], dtype=torch.float64)).tolist()
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
        if waveform.ndim != 2 or waveform.shape[1] < FRAME:
            raise UserError(
                f"VGGishLogMel: wants waveforms of shape (B, N), N at least {FRAME}, not {tuple(waveform.shape)}"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            return in_blocks(self._features, waveform.double(), FRAME / self.hop_length)

    def _features(self, waveform: Tensor) -> Tensor:
        frames = self.prepared(waveform).unfold(1, FRAME, self.hop_length) * self.window
        magnitude = power_of(torch.fft.rfft(frames, self.n_fft)).sqrt_()
        log_mel = (magnitude @ self.mel).add_(OFFSET).log_()
        return log_mel.float().transpose(1, 2).unsqueeze(1).contiguous()


def in_mel(frequency_hz: Tensor) -> Tensor:
    """HTK mels, up to a constant factor, of frequencies of any shape."""
    return (frequency_hz / 700).log1p()

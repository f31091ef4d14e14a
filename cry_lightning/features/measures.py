"""Acoustic measures of a cry as phoneticians take them, by Praat: a baseline without any network."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.signal import welch
from torch import Tensor

from cry_lightning.console import UserError
from cry_lightning.features.base import Feature

if TYPE_CHECKING:
    from parselmouth import Pitch, Sound

EXTRA = "praat-parselmouth (GPL), which is not installed: pip install 'cry_lightning[measures]'"
STEP_S = 0.01  # between frames of pitch, harmonicity, formants and intensity
SHORTEST_PERIODS, LONGEST_FACTOR, MOST_AMPLITUDE = 0.0001, 1.3, 1.6  # Praat's own for jitter and shimmer
SILENT_DB = 30.0  # a frame this far below the loudest is silent
N_FORMANTS = 3
FORMANTS_BELOW = 5  # `formant_max`, as Praat supposes; fewer below a lower ceiling
BLOCK = 1024  # samples of a spectrum
NOTHING_DB = 110.0  # below the strongest frequency; rounding to 16 bit leaves about as much where nothing was recorded
MEASURES = (
    *("f0_mean_hz", "f0_sd_hz", "f0_low_hz", "f0_high_hz", "f0_slope_hz_per_s"),
    *("voiced", "sounding_s", "units", "longest_unit_s"),
    *("jitter", "shimmer", "hnr_mean_db", "hnr_sd_db", "level_sd_db"),
    *(f"f{number}_{what}_hz" for number in range(1, N_FORMANTS + 1) for what in ("mean", "sd")),
)


class AcousticMeasures(Feature):
    """The 20 numbers of `MEASURES` (B, 1, 20, 1) of each waveform: pitch, voicing, jitter, shimmer, HNR and formants.

    Pitch by autocorrelation, of voiced frames; low and high are its 5th and 95th percentiles, the slope is that of a
    straight line. `voiced` is a share of the sounding frames (within 30 dB of the loudest); units are runs of those.
    Jitter and shimmer are Praat's local ones, HNR and formants (by Burg's method) are of voiced frames. Formants are
    looked for as far as the recording has any sound: at 8 kHz, below 4,000 Hz, also where it is resampled to more. What
    cannot be measured, as the pitch of noise, is 0. For a stage on vectors: `encoder/measures.yaml`, and no time shift.

    Args:
        sample_rate: Hz.
        f0_min: lowest pitch, Hz.
        f0_max: highest pitch, Hz; newborns cry at some 300 to 600 Hz, and reach above 1,000 in hyperphonation.
        formant_max: five formants are looked for below this, Hz; infants' vocal tracts are half as long as adults'.

    Raises:
        UserError: Praat's library is not installed, or the limits make no sense.

    Source: Boersma 1993, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
    a sampled sound", IFA Proceedings 17; Jadoul et al. 2018, "Introducing Parselmouth", J. Phonetics 71.
    """

    version = 2

    def __init__(
        self, sample_rate: int = 16000, f0_min: float = 150.0, f0_max: float = 1200.0, formant_max: float = 8000.0
    ) -> None:
        super().__init__()
        if find_spec("parselmouth") is None:
            raise UserError(f"AcousticMeasures: needs {EXTRA}")
        self.check_sizes(sample_rate=sample_rate)
        if not 20 <= f0_min < f0_max <= sample_rate / 4:
            raise UserError(
                f"AcousticMeasures: f0_min must be at least 20, and below f0_max, which is at most a quarter of"
                f" sample_rate; not {f0_min:g}, {f0_max:g} and {sample_rate}"
            )
        if not f0_max < formant_max <= sample_rate / 2:
            raise UserError(
                f"AcousticMeasures: formant_max must lie above f0_max ({f0_max:g}) and be at most half of sample_rate"
                f" ({sample_rate}), not {formant_max:g}"
            )
        self.sample_rate = sample_rate
        self.hop_length = round(STEP_S * sample_rate)
        self.f0_min = f0_min
        self.f0_max = f0_max
        self.formant_max = formant_max

    def n_frames(self, seconds: float) -> int:
        """One, whatever the length."""
        return 1

    def forward(self, waveform: Tensor) -> Tensor:
        """Measures (B, 1, 20, 1) of waveforms (B, N)."""
        rows = [self.measures(row) for row in waveform.detach().double().cpu().numpy()]
        return torch.from_numpy(np.array(rows, np.float32)).to(waveform.device)[:, None, :, None]

    def measures(self, samples: np.ndarray) -> list[float]:
        """The numbers of `MEASURES` of samples (N,); all 0 of silence, or of too little sound to measure."""
        from parselmouth import Sound

        if len(samples) < max(3 * self.sample_rate / self.f0_min, self.hop_length) or not samples.any():
            return [0.0] * len(MEASURES)
        sound = Sound(samples, self.sample_rate)
        pitch = sound.to_pitch_ac(STEP_S, self.f0_min, pitch_ceiling=self.f0_max)
        f0 = pitch.selected_array["frequency"]
        times = pitch.xs()[f0 > 0]
        found = [*self._pitch_and_voice(sound, pitch, times, f0[f0 > 0]), *self._formants(sound, times)]
        return [float(value) if np.isfinite(value) else 0.0 for value in found]

    def _pitch_and_voice(self, sound: "Sound", pitch: "Pitch", times: np.ndarray, values: np.ndarray) -> list[float]:
        from parselmouth.praat import call

        sounding, level_sd = self._sounding(sound)
        units = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], sounding, [0]]))))[::2]
        points = call([sound, pitch], "To PointProcess (cc)")
        limits = (0, 0, SHORTEST_PERIODS, 1 / self.f0_min, LONGEST_FACTOR)
        jitter = call(points, "Get jitter (local)", *limits)
        shimmer = call([sound, points], "Get shimmer (local)", *limits, MOST_AMPLITUDE)
        harmonicity = sound.to_harmonicity_cc(STEP_S, self.f0_min).values
        hnr = harmonicity[harmonicity > -200]  # Praat's mark of a frame without a pitch
        spread = len(values) > 1
        return [
            *([values.mean(), values.std(), *np.percentile(values, [5, 95])] if len(values) else [0.0] * 4),
            np.polyfit(times - times[0], values, 1)[0] if spread else 0.0,
            min(1.0, len(values) / max(sounding.sum(), 1)),
            sounding.sum() * STEP_S,
            len(units),
            units.max(initial=0) * STEP_S,
            *(jitter, shimmer),
            *((hnr.mean(), hnr.std()) if len(hnr) else (0.0, 0.0)),
            level_sd,
        ]

    def _sounding(self, sound: "Sound") -> tuple[np.ndarray, float]:
        """Which frames of 10 ms lie within 30 dB of the loudest, and the deviation of their levels in dB."""
        length = round(STEP_S * self.sample_rate)
        samples = sound.values[0]
        frames = samples[: len(samples) // length * length].reshape(-1, length)
        levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
        sounding = levels > levels.max() - SILENT_DB
        return sounding.astype(int), levels[sounding].std()

    def _formants(self, sound: "Sound", times: np.ndarray) -> list[float]:
        """Mean and deviation of each formant at the times of voiced frames."""
        ceiling = max(self.f0_max, min(self.formant_max, self._bandwidth(sound.values[0])))
        number = max(1.0, round(2 * FORMANTS_BELOW * ceiling / self.formant_max) / 2)  # Praat counts in halves
        formants = sound.to_formant_burg(STEP_S, number, ceiling)
        values = []
        for formant in range(1, N_FORMANTS + 1):
            found = np.array([formants.get_value_at_time(formant, time) for time in times])
            found = found[np.isfinite(found)]
            values += [found.mean(), found.std()] if len(found) else [0.0, 0.0]
        return values

    def _bandwidth(self, samples: np.ndarray) -> float:
        """The highest frequency at which there is any sound, Hz: a recording's own Nyquist, or less."""
        frequencies, power = welch(samples, self.sample_rate, nperseg=min(BLOCK, len(samples)))
        return float(frequencies[power >= power.max() * 10 ** (-NOTHING_DB / 10)].max())

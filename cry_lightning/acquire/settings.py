"""The thresholds that decide what a unit is."""

import math
from argparse import Namespace
from dataclasses import astuple, dataclass, field, fields

from cry_lightning.arguments import ArgumentParser
from cry_lightning.errors import UserError

SAMPLE_RATE = 16000  # of the units, in Hz
FRAME_S = 0.01
SHORTEST_S = 0.05  # holds a frame in which pitch is sought


def _setting(default: float, about: str) -> float:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class Settings:
    """What a unit is; each field is an option of the command, and told there."""

    highpass_hz: float = _setting(200.0, "rumble and hum below are not heard")
    floor_window_s: float = _setting(10.0, "the floor is sought within this time around each second")
    floor_percentile: float = _setting(10.0, "of the levels within that time: the floor")
    floor_range_db: float = _setting(40.0, "the floor is no further below the loudest sound within that time")
    floor_min_db: float = _setting(-70.0, "nor lower than this, dB re full scale")
    onset_db: float = _setting(12.0, "a unit rises this far above the floor")
    release_db: float = _setting(6.0, "and reaches as far as it stays this far above it")
    min_gap_s: float = _setting(0.1, "shorter gaps are bridged, unless the unit would get too long")
    min_unit_s: float = _setting(0.18, "shorter units are dropped")
    max_unit_s: float = _setting(2.5, "longer ones are cut where they are quietest")
    f0_min_hz: float = _setting(200.0, "lowest pitch of a cry")
    f0_max_hz: float = _setting(2000.0, "highest pitch of a cry, hyperphonation included")
    min_harmonicity: float = _setting(0.45, "units less periodic are dropped, 0 to 1; 0 keeps all")

    def __post_init__(self) -> None:
        """Refuse thresholds that contradict each other.

        Raises:
            UserError: naming them.
        """
        for holds, told in (
            (all(map(math.isfinite, astuple(self))), "each is a number"),
            (0 < self.highpass_hz < SAMPLE_RATE / 2, "highpass_hz is between 0 and 8000"),
            (self.floor_window_s >= 1, "floor_window_s is at least 1"),
            (0 <= self.floor_percentile <= 100, "floor_percentile goes from 0 to 100"),
            (self.floor_range_db >= self.onset_db, "floor_range_db is at least onset_db"),
            (0 < self.release_db <= self.onset_db, "release_db is above 0 and at most onset_db"),
            (self.min_gap_s >= 0, "min_gap_s is at least 0"),
            (self.min_unit_s >= SHORTEST_S, f"min_unit_s is at least {SHORTEST_S}"),
            (self.max_unit_s >= 2 * self.min_unit_s, "max_unit_s is at least twice min_unit_s"),
            (100 <= self.f0_min_hz < self.f0_max_hz <= 4000, "100 <= f0_min_hz < f0_max_hz <= 4000"),
            (0 <= self.min_harmonicity <= 1, "min_harmonicity goes from 0 to 1"),
        ):
            if not holds:
                raise UserError(f"thresholds: {told}; see python -m cry_lightning acquire --help")


def add_options(parser: ArgumentParser) -> None:
    """Add an option for every threshold."""
    group = parser.add_argument_group("thresholds")
    for setting in fields(Settings):
        option, unit = "--" + setting.name.replace("_", "-"), setting.name.rpartition("_")[2].upper()
        about = f"{setting.metadata['about']} (default: %(default)s)"
        group.add_argument(option, type=float, default=setting.default, metavar=unit, help=about)


def settings_of(options: Namespace) -> Settings:
    """The thresholds that were given."""
    return Settings(**{setting.name: getattr(options, setting.name) for setting in fields(Settings)})

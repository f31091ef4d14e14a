"""The thresholds that decide what a unit is."""

import math
from dataclasses import astuple, dataclass, fields

from cry_lightning.console import UserError

SAMPLE_RATE = 16000  # of the units, in Hz
FRAME_S = 0.01
SHORTEST_S = 0.05  # holds a frame in which pitch is sought


@dataclass(frozen=True)
class Settings:
    """What a unit is; each is an option of the command.

    Args:
        highpass_hz: rumble and hum below are filtered out.
        floor_window_s: the floor is sought within this time around each second.
        floor_percentile: of the levels within that time: the floor.
        floor_range_db: the floor is no further below the loudest sound within that time.
        floor_min_db: nor lower than this, dB re full scale.
        onset_db: a unit rises this far above the floor.
        release_db: and reaches as far as it stays this far above it.
        min_gap_s: shorter gaps are bridged, unless the unit would get too long.
        min_unit_s: shorter units are dropped.
        max_unit_s: longer ones are cut where they are quietest.
        f0_min_hz: lowest pitch of a cry.
        f0_max_hz: highest pitch of a cry, hyperphonation included.
        min_harmonicity: units less periodic are dropped, 0 to 1; 0 keeps all.
    """

    highpass_hz: float = 200.0
    floor_window_s: float = 10.0
    floor_percentile: float = 10.0
    floor_range_db: float = 40.0
    floor_min_db: float = -70.0
    onset_db: float = 12.0
    release_db: float = 6.0
    min_gap_s: float = 0.1
    min_unit_s: float = 0.18
    max_unit_s: float = 2.5
    f0_min_hz: float = 200.0
    f0_max_hz: float = 2000.0
    min_harmonicity: float = 0.45

    def __post_init__(self) -> None:
        """Refuse thresholds that contradict each other.

        Raises:
            UserError: naming them.
        """
        for holds, reason in (
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
                raise UserError(f"thresholds: {reason}; see python -m cry_lightning acquire --help")

    def check_used(self) -> None:
        """Refuse thresholds that a detector, which finds cries in their place, would not use.

        Raises:
            UserError: naming them.
        """
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if unused := [f"--{name.replace('_', '-')}" for name in given if name in UNUSED]:
            raise UserError(
                f"argument {', '.join(unused)}: not allowed with argument --detector, which finds cries itself"
            )


UNUSED = {field.name for field in fields(Settings)} - {"highpass_hz", "f0_min_hz", "f0_max_hz"}  # with a detector

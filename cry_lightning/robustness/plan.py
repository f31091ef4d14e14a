"""Which disturbances a study is made of, and where each stands on its figure's axis."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from cry_lightning.console import UserError
from cry_lightning.robustness import disturbances
from cry_lightning.robustness.disturbances import Disturbance, undisturbed

EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # octaves
LOW_PASS_HZ = (3400.0, 2000.0, 1000.0)
UNDISTURBED = "undisturbed"  # the severity of a point that every kind has
BESIDE_DB = 5.0  # from the highest ratio to the undisturbed point, whose own is infinite


@dataclass(frozen=True)
class Point:
    """A kind of disturbance at one severity."""

    kind: str
    severity: str
    place: float  # on the axis
    disturb: Disturbance


@dataclass(frozen=True)
class Severities:
    """What is asked for, as `robustness` of the API takes it."""

    kinds: Sequence[str]
    noise: str | None
    snr_db: Sequence[float]
    bands_hz: Sequence[float] | None
    blank: Sequence[float]
    gain_db: Sequence[float]
    low_pass_hz: Sequence[float] | None
    seed: int


@dataclass(frozen=True)
class Kind:
    """What the points of one figure have in common."""

    points: Callable[[Severities, int], Iterator[Point]]  # those disturbed, of what is given and a sample rate in Hz
    axis: str
    unit: str = ""  # of the severities
    is_scale: bool = True  # the severities are numbers on one scale, else names


def points(given: Severities, sample_rate: int) -> list[Point]:
    """All points of the kinds asked for, each kind's undisturbed one among them, in the order of the axes.

    Args:
        given: of the command.
        sample_rate: Hz, the lowest among the models.

    Raises:
        UserError: a severity makes no sense.
    """
    planned = []
    for name in dict.fromkeys(given.kinds):
        disturbed = list(KINDS[name].points(given, sample_rate))
        nearest = min(point.place for point in disturbed)
        place = nearest - BESIDE_DB if name in ("noise", "white") else 0.0
        planned += sorted([Point(name, UNDISTURBED, place, undisturbed), *disturbed], key=lambda point: point.place)
    return planned


def _noise(given: Severities, sample_rate: int) -> Iterator[Point]:
    if given.noise is None:
        raise UserError("--kinds noise wants recordings to add: --noise FOLDER")
    for ratio in set(given.snr_db):
        disturb = partial(disturbances.with_noise, snr_db=ratio, seed=given.seed, folder=given.noise)
        yield Point("noise", f"{ratio:g}", -ratio, disturb)


def _white(given: Severities, sample_rate: int) -> Iterator[Point]:
    for ratio in set(given.snr_db):
        disturb = partial(disturbances.with_white_noise, snr_db=ratio, seed=given.seed)
        yield Point("white", f"{ratio:g}", -ratio, disturb)


def _bands(given: Severities, sample_rate: int) -> Iterator[Point]:
    highest = sample_rate / 2
    edges = given.bands_hz or sorted({*(edge for edge in EDGES_HZ if edge < highest), highest})
    _refuse_unheard("--bands-hz", edges, sample_rate)
    if len(edges) < 2 or list(edges) != sorted(set(edges)) or edges[0] < 0:
        raise UserError(f"--bands-hz {_told(edges)}: give two or more edges, from 0 Hz upwards")
    for place, (low_hz, high_hz) in enumerate(pairwise(edges), 1):
        disturb = partial(disturbances.without_band, low_hz=low_hz, high_hz=high_hz)
        yield Point("bands", f"{low_hz:g}-{high_hz:g}", place, disturb)


def _ends(given: Severities, sample_rate: int) -> Iterator[Point]:
    if not all(0 < share < 1 for share in given.blank):
        raise UserError(f"--blank {_told(given.blank)}: shares of the clip lie between 0 and 1")
    sides: dict[disturbances.Side, int] = {"start": -1, "end": 1}
    for share in set(given.blank):
        for side, sign in sides.items():
            disturb = partial(disturbances.blanked, share=share, side=side)
            yield Point("ends", f"{side} {share:g}", sign * share, disturb)


def _gain(given: Severities, sample_rate: int) -> Iterator[Point]:
    for gain in set(given.gain_db):
        yield Point("gain", f"{gain:g}", gain, partial(disturbances.amplified, gain_db=gain))


def _channel(given: Severities, sample_rate: int) -> Iterator[Point]:
    highest = sample_rate / 2
    cutoffs = given.low_pass_hz or [cutoff for cutoff in LOW_PASS_HZ if cutoff < highest]
    _refuse_unheard("--low-pass-hz", cutoffs, sample_rate)
    named: dict[str, Disturbance] = {
        "8-bit linear": partial(disturbances.coded, code="PCM_U8"),
        "8-bit mu-law": partial(disturbances.coded, code="ULAW"),
    }
    for cutoff in sorted(set(cutoffs), reverse=True):
        named[f"low-pass {cutoff:g} Hz"] = partial(disturbances.without_band, low_hz=cutoff, high_hz=math.inf)
    for place, (name, disturb) in enumerate(named.items(), 1):
        yield Point("channel", name, place, disturb)


def _refuse_unheard(option: str, frequencies_hz: Sequence[float], sample_rate: int) -> None:
    if unheard := [frequency for frequency in frequencies_hz if not 0 <= frequency <= sample_rate / 2]:
        raise UserError(
            f"{option} {_told(unheard)}: the model hears 0 to {sample_rate / 2:g} Hz, its sample rate is"
            f" {sample_rate} Hz"
        )


def _told(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:g}" for number in numbers)


KINDS = {
    "noise": Kind(_noise, "signal-to-noise ratio, recorded noise (dB)", "dB"),
    "white": Kind(_white, "signal-to-noise ratio, white noise (dB)", "dB"),
    "bands": Kind(_bands, "band removed (Hz)", "Hz", is_scale=False),
    "ends": Kind(_ends, "share of the clip blanked: from its start (left), up to its end (right)", "of the clip"),
    "gain": Kind(_gain, "gain, clipped at full scale (dB)", "dB"),
    "channel": Kind(_channel, "channel", is_scale=False),
}

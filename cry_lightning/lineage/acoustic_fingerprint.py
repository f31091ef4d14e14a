"""How a recording sounds, in a few hundred bytes, so that it is found again after trimming, resampling or coding.

Peaks of a spectrogram are joined to the next ones; a landmark is two frequencies and the time between them. Of two
recordings of the same sound many landmarks are equal, all at one shift in time. Source: Wang 2003, "An industrial
strength audio search algorithm", ISMIR. `docs/evaluation.md` has what is found, and how often something else.
"""

import base64
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import soxr
from scipy.fft import rfft
from scipy.special import pdtrc

SAMPLE_RATE, N_FFT, HOP = 8000, 512, 192  # telephones have no more samples a second
BINS = slice(16, 218)  # 250 to 3400 Hz, which AMR-NB keeps
RANGE, SILENCE = np.float32(1e-5), np.float32(1e-12)  # peaks lie at most 50 dB below the highest, and above this
AROUND_T, AROUND_F = 5, 10  # frames and bins on each side, above all of which a peak is
GAPS, JUMPS = (1, 21), (2, 96)  # frames and bins from peak to peak: a steady tone, as of mains, has no landmarks
GAP_STEP, FAN = 2, 3  # frames that a gap is measured in, and how many of the next peaks are joined to one
PER_S, NEXT = 16, 40  # landmarks kept of each second, the strongest; peaks among which the next are looked for
ENOUGH, LONG, CHANCE = 4, 42, 1e-6  # landmarks at one shift, over so many frames, so unlikely by chance: one sound
AGAIN = 31, 420  # frames, 0.7 to 10 s, after which the same two frequencies tell of a device, as an alarm
TYPE, LETTERS = np.dtype([("hash", "<u4"), ("time", "<u2")]), 8  # of a landmark in memory, and in text
FRAMES = 2**10  # whose spectra are in memory at once, so that a core keeps them at hand
AT_ONCE = 2**18  # pairs of equal landmarks that are in memory at once
MIXED, MIXING = 2**40 + 15, np.uint64(0x9E3779B97F4A7C15)  # odd numbers that spread keys over a table
WINDOW = np.hanning(N_FFT).astype(np.float32)
LANDMARKS_VERSION = 1  # raise it when sounds begin to have others: caches are then rebuilt


def landmarks(waveforms: np.ndarray, sample_rate: int) -> list[str]:
    """The landmarks of each of some waveforms (B, N), as letters; none of silence, or of less than 64 ms."""
    if sample_rate != SAMPLE_RATE:
        waveforms = np.stack([soxr.resample(row, sample_rate, SAMPLE_RATE, quality="HQ") for row in waveforms])
    if waveforms.shape[1] < N_FFT or not len(waveforms):
        return [""] * len(waveforms)
    n_rows = max(1, FRAMES * HOP // waveforms.shape[1])
    blocks = [waveforms[row : row + n_rows].astype(np.float32, copy=False) for row in range(0, len(waveforms), n_rows)]
    peaks = [_peaks(_power(block)) for block in blocks]
    clips = [clip + n_rows * number for number, (clip, *_) in enumerate(peaks)]
    columns = [clips, *list(zip(*peaks, strict=True))[1:]]
    clip, packed = _joined(*(np.concatenate(column) for column in columns))
    ends = np.searchsorted(clip, np.arange(len(waveforms) + 1))
    return [base64.b64encode(packed[first:last].tobytes()).decode() for first, last in pairwise(ends.tolist())]


def _power(waveforms: np.ndarray) -> np.ndarray:
    """Power spectra (B, T, F) of waveforms (B, N)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, N_FFT, axis=1)[:, ::HOP]
    spectra = rfft(frames * WINDOW, axis=-1)[..., BINS]
    return np.square(spectra.real) + np.square(spectra.imag)


def most_letters(seconds: float) -> int:
    """Of the landmarks of a sound of that length."""
    return LETTERS * PER_S * math.ceil(seconds)


def _peaks(power: np.ndarray) -> tuple[np.ndarray, ...]:
    """Clip, frame, bin and log-power of the peaks in power spectra (B, T, F), in this order."""
    floor = np.maximum(power.max(axis=(1, 2), keepdims=True) * RANGE, SILENCE)
    raised = np.maximum(power, floor)
    highest = _running_max(_running_max(raised, AROUND_T, 1), AROUND_F, 2)
    places = np.unravel_index(np.flatnonzero((raised == highest) & (raised > floor)), power.shape)
    return *places, np.log(power[places])


def _running_max(values: np.ndarray, around: int, axis: int) -> np.ndarray:
    """The highest of each value (B, T, F), none below 0, and those up to `around` beside it along an axis."""
    found = np.pad(values, [(around * (axis == each),) * 2 for each in range(3)])
    reach, width = 1, 2 * around + 1
    while reach < width:  # windows of 1, 2, 4 ..., the last one overlapping
        step = min(reach, width - reach)
        before, after = ((slice(None),) * axis + (part,) for part in (slice(-step), slice(step, None)))
        found, reach = np.maximum(found[before], found[after]), reach + step
    return found


def _joined(clip: np.ndarray, time: np.ndarray, low: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, ...]:
    """The strongest landmarks of each second of every clip, by clip and time: the clip of each (L,), and they (L,)."""
    n_joined = np.zeros(len(clip), int)
    rows, others = [np.zeros(0, int)], [np.zeros(0, int)]
    for step in range(1, min(NEXT, len(clip))):
        gap, jump = time[step:] - time[:-step], np.abs(low[step:] - low[:-step])
        near = (clip[step:] == clip[:-step]) & (gap >= GAPS[0]) & (gap <= GAPS[1]) & (n_joined[:-step] < FAN)
        row = np.flatnonzero(near & (jump >= JUMPS[0]) & (jump <= JUMPS[1]) & (time[step:] < 2**16))
        rows.append(row)
        others.append(row + step)
        n_joined[row] += 1
    row, other = np.concatenate(rows), np.concatenate(others)
    second = clip[row] * 2**16 + time[row] * HOP // SAMPLE_RATE
    order = np.lexsort((other, row, -(strength[row] + strength[other]), second))
    place = np.arange(len(order)) - np.searchsorted(second[order], second[order])
    kept = order[place < PER_S]
    kept = kept[np.lexsort((other[kept], row[kept]))]
    first, then = row[kept], other[kept]
    packed = np.zeros(len(kept), TYPE)
    packed["hash"] = (low[first] * 256 + low[then]) * 64 + (time[then] - time[first]) // GAP_STEP
    packed["time"] = time[first]
    return clip[first], packed


class Landmarks(NamedTuple):
    """All landmarks of some sounds, as columns (L,)."""

    files: Sequence[str]  # names of the files
    file: np.ndarray  # of which each is, as a place among these
    time: np.ndarray  # from the beginning of the file, in frames
    hash: np.ndarray
    sound: np.ndarray  # of which each is, as a place among the sounds

    def at(self, rows: np.ndarray | slice) -> "Landmarks":
        """Some of them."""
        return Landmarks(self.files, self.file[rows], self.time[rows], self.hash[rows], self.sound[rows])


def decoded(sounds: Sequence[str]) -> Landmarks:
    """All landmarks of some sounds, as of `lineage.sound_fingerprint`."""
    parts = [sound.split("#") if sound.count("#") == 2 else (sound, "0", "") for sound in sounds]
    seconds = {stretch: float(stretch.partition("-")[0]) for stretch in {stretch for _, stretch, _ in parts}}
    files = {name: number for number, name in enumerate(dict.fromkeys(name for name, _, _ in parts))}
    starts, numbers = [seconds[stretch] for _, stretch, _ in parts], [files[name] for name, _, _ in parts]
    letters = [letters.encode() for _, _, letters in parts]
    return unpacked(list(files), np.array(numbers, int), np.array(starts, float), letters)


def unpacked(files: Sequence[str], file: np.ndarray, start_s: np.ndarray, letters: Sequence[bytes]) -> Landmarks:
    """All landmarks of some sounds (n,): of which files, where they begin there, and their landmarks as letters."""
    packed = np.frombuffer(base64.b64decode(b"".join(letters)), TYPE)
    n_each = [len(each) // LETTERS for each in letters]
    frame = np.rint(start_s * SAMPLE_RATE / HOP).astype(int)
    starts, numbers, place = (np.repeat(each, n_each) for each in (frame, file, np.arange(len(letters))))
    return Landmarks(files, numbers, starts + packed["time"], packed["hash"].astype(int), place)


def alike(sounds: Sequence[str] | Landmarks, others: Sequence[str] | Landmarks) -> np.ndarray:
    """Places (n, 2) of sounds and of what they are found again as among others, in files of other bytes.

    What comes of one file is compared as one recording, without the sounds of a device.

    Args:
        sounds: as of `lineage.sound_fingerprint`, or the landmarks of such `of_no_device`.
        others: likewise.
    """
    ours, theirs = (x if isinstance(x, Landmarks) else of_no_device(decoded(x)) for x in (sounds, others))
    numbers = {name: number for number, name in enumerate(theirs.files)}
    number = np.array([numbers.setdefault(name, len(numbers)) for name in ours.files], int)
    ours = ours._replace(file=number[ours.file])
    ours, theirs = ours.at(np.argsort(ours.file, kind="stable")), theirs.at(np.argsort(theirs.hash, kind="stable"))
    ends = np.zeros(len(numbers), int)  # of each file, in frames
    for each in (ours, theirs):
        np.maximum.at(ends, each.file, each.time)
    kinds = (
        np.bincount(_distinct(each.file << 32 | each.hash) >> 32, minlength=len(numbers)) for each in (ours, theirs)
    )
    sizes = np.maximum(*kinds)
    known, begins, n_known = np.unique(theirs.hash, return_index=True, return_counts=True)
    known, begins, n_known = (np.append(each, end) for each, end in ((known, -1), (begins, 0), (n_known, 0)))
    place = np.searchsorted(known[:-1], ours.hash)
    first, n_equal = begins[place], np.where(known[place] == ours.hash, n_known[place], 0)
    upto, found, begin = np.cumsum(n_equal), [np.zeros((0, 2), int)], 0
    while begin < len(upto):  # whole recordings, as many as memory is meant to hold
        end = max(int(np.searchsorted(upto, upto[begin] + AT_ONCE)), begin + 1)
        end = int(np.searchsorted(ours.file, ours.file[end - 1], "right"))
        block = slice(begin, end)
        found.append(_alike(*_equal(ours.at(block), theirs, first[block], n_equal[block]), ends, sizes))
        begin = end
    return np.unique(np.concatenate(found), axis=0)


def of_no_device(marks: Landmarks) -> Landmarks:
    """Those that do not join two frequencies of what comes again and again, as an alarm does at any shift in time.

    Which frequencies these are, landmarks of the same two within `AGAIN` tell. An alarm has a few alone, though it has
    other landmarks each time that it begins elsewhere within a frame.
    """
    low, high = marks.hash >> 14 & 255, marks.hash >> 6 & 255
    ones, others, both = ((marks.file << 16 | kind) << 25 | marks.time for kind in (low, high, low << 8 | high))
    least, most = AGAIN
    known = np.sort(both)
    again = _any_within(known, both, least, most) | _any_within(known, both, -most, -least)
    known = np.sort(np.concatenate([ones[again], others[again]]))
    return marks.at(~(_any_within(known, ones, -most, most) & _any_within(known, others, -most, most)))


def _any_within(known: np.ndarray, keys: np.ndarray, first: int, last: int) -> np.ndarray:
    """Beside which of some keys (n,) there is any of the known ones, which are sorted, from so much to so much more."""
    return np.searchsorted(known, keys + last, "right") > np.searchsorted(known, keys + first)


def _equal(ours: Landmarks, theirs: Landmarks, first: np.ndarray, n_equal: np.ndarray) -> tuple[Landmarks, Landmarks]:
    """The landmarks that have their like in another file, beside these: of each pair of files, all or none.

    None where there are not enough at one shift in time, which nearly all pairs are known by without being sorted.
    """
    other = np.repeat(first - np.cumsum(n_equal) + n_equal, n_equal)
    other += np.arange(len(other))
    own, their = np.repeat(ours.file, n_equal), theirs.file[other]
    pair = own << 32 | their
    kept = np.flatnonzero(_often(pair) & (own != their))
    mine, other, pair = np.repeat(np.arange(len(first)), n_equal)[kept], other[kept], pair[kept]
    shift = ours.time[mine] - theirs.time[other]
    near = _often(pair * MIXED + shift // 2) | _often(pair * MIXED + (shift + 1) // 2)
    buckets = _buckets(pair)
    hopeful = np.bincount(buckets, near) > 0
    kept = hopeful[buckets]
    return ours.at(mine[kept]), theirs.at(other[kept])


def _buckets(keys: np.ndarray) -> np.ndarray:
    """A number for each of some keys (n,): of the same keys the same, of others rarely."""
    bits = max(2 * len(keys), 1).bit_length()
    return (keys.view(np.uint64) * MIXING >> np.uint64(64 - bits)).view(int)


def _often(keys: np.ndarray) -> np.ndarray:
    """Which of some keys (n,) are there often enough for one sound; and a few others."""
    buckets = _buckets(keys)
    return (np.bincount(buckets) >= ENOUGH)[buckets]


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Keys (n,) each once, in order: `np.unique` hashes such of two numbers, thirty times as long."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]


def _alike(mine: Landmarks, other: Landmarks, ends: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Places (n, 2) of sounds whose landmarks have their like in another file, many at one shift in time.

    Within a second, other words have up to seven that begin at four times; a copy of a word with few peaks has all of
    its landmarks, though they begin at one or two.
    """
    fewer, more = np.sort([sizes[mine.file], sizes[other.file]], axis=0)  # kinds of landmarks of the two files
    pair = np.unique(mine.file << 32 | other.file, return_inverse=True)[1]
    n_shifts = 1 + (ends[mine.file] + ends[other.file]) / 2
    enough = np.zeros(len(pair), bool)
    for slack in (0, 1):  # two frames are one shift, whichever of them comes first
        at = np.unique((pair << 32) + (mine.time - other.time + slack) // 2, return_inverse=True)[1]
        n_times, n_hashes = (_kinds(at, kind) for kind in (mine.time // 2, mine.hash))
        fewest = np.minimum(n_times, n_hashes)
        several = (fewest > ENOUGH) | (fewest == ENOUGH) & (_spans(at, mine.time) >= LONG)
        word = (n_hashes >= ENOUGH) & (n_hashes >= more)
        word |= (n_hashes >= 2 * ENOUGH) & (2 * n_hashes >= fewer) & (n_times > 1)
        n_other = np.bincount(pair)[pair] - np.bincount(at)[at]  # a hum has many, at every shift
        n_apart = np.maximum(fewest, n_hashes // 2)  # landmarks that share peaks come together
        enough |= (several | word) & (n_shifts * pdtrc(n_apart - 1, n_other / n_shifts) < CHANCE)
    return np.stack([mine.sound[enough], other.sound[enough]], axis=1)


def _kinds(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each of some values (n,), how many different ones its group has."""
    return np.bincount(_distinct(groups << 32 | values) >> 32)[groups]


def _spans(at: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Of each landmark, how many frames lie between the first and the last at its shift."""
    order = np.lexsort((time, at))
    first, last = np.searchsorted(at[order], at), np.searchsorted(at[order], at, "right") - 1
    return time[order[last]] - time[order[first]]

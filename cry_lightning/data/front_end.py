"""The front end that a network has learned to hear through, as its checkpoint tells it."""

import json

from cry_lightning.audio import FRONT_END_VERSION
from cry_lightning.errors import UserError
from cry_lightning.features import Feature

LONGEST_S = 600.0  # of a clip, and of a shift
MOST_NUMBERS = 2**28  # in the frames of one clip: 1 GB


def front_end(feature: Feature) -> str:
    """All that decides what a sound looks like to a network, as JSON."""
    return json.dumps({"audio": FRONT_END_VERSION, **feature.identity()})


def check_front_end(feature: Feature, trained_on: str) -> None:
    """Refuse to give a network another front end than it was trained on.

    Raises:
        UserError: the arguments differ, or the code gives other numbers by now.
    """
    if front_end(feature) != trained_on:
        raise UserError(
            f"the checkpoint was trained on the front end {trained_on}, not {front_end(feature)}: go on with the config"
            " and the release that made it, or train anew"
        )


def check_lengths(feature: Feature, clip_s: float, shift_s: float) -> None:
    """Refuse clips of no length, of more sound than a network hears at once, or of more frames than memory holds.

    Raises:
        UserError: naming the limit.
    """
    if not (0 < clip_s <= LONGEST_S and 0 <= shift_s <= LONGEST_S):  # nor NaN
        raise UserError(
            f"data: clip_s must be above 0 and shift_s 0 or more, and both {LONGEST_S:g} s at most, not {clip_s} and"
            f" {shift_s}; longer recordings are cut by the corpus's window_s"
        )
    if (numbers := numbers_of(feature, clip_s + 2 * shift_s)) > MOST_NUMBERS:
        raise UserError(
            f"data: a clip of {clip_s + 2 * shift_s:g} s is {numbers:.2g} numbers in frames, and more than"
            f" {MOST_NUMBERS}: raise the feature's hop_length, or lower n_fft, sample_rate or clip_s"
        )


def numbers_of(feature: Feature, seconds: float) -> int:
    """How many numbers a clip is in the frames that a feature is computed from."""
    n_samples = round(seconds * feature.sample_rate)
    return max(n_samples, n_samples // feature.hop_length * getattr(feature, "n_fft", 1), 1)


def check_shift(feature: Feature, clip_s: float, shift_s: float) -> None:
    """Refuse a time shift that a feature cannot show: a shift is a crop of the features of a longer clip.

    Raises:
        UserError: the longer clip has no more frames.
    """
    if shift_s and feature.n_frames(clip_s + 2 * shift_s) == feature.n_frames(clip_s):
        raise UserError(
            f"data: shift_s {shift_s:g} changes nothing: {type(feature).__name__} has as many frames with it as"
            " without; set it to 0, or shift the sound: the feature Waveform, and this one as model.init_args.front_end"
        )

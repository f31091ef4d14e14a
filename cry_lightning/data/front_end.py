"""The front end that a network has learned to hear through, as its checkpoint tells it."""

import json

from cry_lightning.audio import FRONT_END_VERSION
from cry_lightning.errors import UserError
from cry_lightning.features import Feature


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

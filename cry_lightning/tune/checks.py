"""What is refused before a search begins."""

from collections.abc import Iterator
from typing import Any

from cry_lightning.errors import UserError
from cry_lightning.studies import Study, open_study
from cry_lightning.tune.space import Space, as_arguments, corners
from cry_lightning.tune.trials import Goal
from cry_lightning.wording import did_you_mean

PARTS = ("train", "val", "test")
FIXED = ("name", "runs", "overwrite", "ckpt_path", "checkpoint", "trainer.logger", "trainer.devices")  # for all trials


def goal_of(study: Study) -> Goal:
    """What the stage chooses its checkpoint by.

    Raises:
        UserError: it is no validation metric.
    """
    chosen_by = study.config["checkpoint"]
    if not str(chosen_by["monitor"]).startswith("val/"):
        raise UserError(
            f"checkpoint.monitor: {chosen_by['monitor']} is no validation metric; name one, such as val/uar"
        )
    return Goal(chosen_by["monitor"], chosen_by["mode"])


def check_grouping(study: Study) -> None:
    """Refuse to choose on subjects that are trained on, or tested.

    Raises:
        UserError: so it would be.
    """
    part_of: dict[str, str] = {}
    for part in PARTS:
        for subject in study.data.subjects(part):
            if part_of.setdefault(subject, part) != part:
                raise UserError(
                    f"subject {subject} is both in {part_of[subject]} and in {part}: what suits known subjects would be"
                    " chosen; set data.split.group=subject, and data.split.column=null where the corpus divides itself"
                )


def check_space(study: Study, space: Space, path: str) -> None:
    """Parse settings that have, taken together, both ends of every range and each of all choices.

    Raises:
        UserError: `fit` would not take them, or they choose who is validated on and tested.
    """
    if fixed := [key for key in space if key.startswith(FIXED)]:
        raise UserError(f"--space {path}: {fixed[0]} is the same for all trials; leave it out")
    divided = [study.data.subjects(part) for part in PARTS[1:]]
    for values in corners(space):
        try:
            corner = open_study([*study.arguments, *as_arguments(values)])
        except UserError as error:
            known = list(dotted_keys(study.config))
            unknown = [key for key in space if key not in known]
            hint = "" if "did you mean" in str(error) else did_you_mean(unknown, known)
            raise UserError(f"--space {path}: {error}{hint}") from error
        if [corner.data.subjects(part) for part in PARTS[1:]] != divided:
            raise UserError(f"--space {path}: trials must share their validation and test subjects; leave the data be")


def dotted_keys(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested config."""
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted_keys(value, f"{prefix}{key}.")

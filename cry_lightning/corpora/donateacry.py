"""Donate-a-Cry: cries sent in by parents' phones, described by a code in each file's name."""

import re
from pathlib import Path
from typing import Any, Literal

from cry_lightning.corpora.base import Clip
from cry_lightning.corpora.trees import Tree

# The cleaned tree files cold or hot (ch) under discomfort; the raw uploads are spelled alike.
REASONS = {
    "bp": "belly_pain",
    "bu": "burping",
    "ch": "discomfort",
    "dc": "discomfort",
    "dk": None,  # the parent did not know
    "hu": "hungry",
    "lo": "lonely",
    "sc": "scared",
    "ti": "tired",
}
AGES = {
    "04": "0_4_weeks",
    "48": "4_8_weeks",
    "26": "2_6_months",
    "72": "7_24_months",
    "22": "over_24_months",
}
SEXES = {"f": "female", "m": "male"}

INSTALL = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NAME = re.compile(
    rf"(?P<install>{INSTALL})-(?P<time>[\d.]+)-(?P<version>[\d.]+)-"
    rf"(?:{INSTALL}-)?"  # the first uploads repeat an id here
    rf"(?P<sex>{'|'.join(SEXES)})-(?P<age>{'|'.join(AGES)})-(?P<reason>{'|'.join(REASONS)})\.",
    re.IGNORECASE,
)


class DonateACry(Tree):
    """The cleaned tree or the raw phone uploads; the subject is the app install, one id space for both forms.

    Columns: reason (blank: unknown), age, sex, app_version, time (milliseconds since 1970).

    Args:
        root: folder with the recordings.
        target: which part of the name code is the label; an unknown reason is unlabelled.
    """

    collection = "donateacry"

    def __init__(self, root: str | Path, target: Literal["reason", "age", "sex"] = "reason", **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.target = target

    def clip_at(self, path: str) -> Clip | None:
        """The clip that a name code describes."""
        if not (code := NAME.match(Path(path).name)):
            return None
        time = float(code["time"])
        columns = {
            "reason": REASONS[code["reason"].lower()] or "",
            "age": AGES[code["age"]],
            "sex": SEXES[code["sex"].lower()],
            "app_version": code["version"],
            "time": str(round(time if time > 1e11 else time * 1000)),  # one platform counts seconds
        }
        subject = f"{self.collection}:{code['install'].lower()}"
        return Clip(path, subject, label=columns[self.target] or None, columns=columns)

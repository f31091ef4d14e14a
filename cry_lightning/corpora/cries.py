"""Corpora of infant cries: Baby Chillanto, Donate-a-Cry and CryCeleb."""

import csv
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cry_lightning.audio import warn_once
from cry_lightning.console import UserError
from cry_lightning.corpora.clips import Clip
from cry_lightning.corpora.trees import Tree

KINDS = ("asphyxia", "deaf", "hunger", "normal", "pain")
FOLDERS = {f"1s_{kind}": kind for kind in KINDS}
HEALTHY = ["normal", "hunger", "pain"]
TASKS = {
    "asphyxia": {"normal": HEALTHY, "asphyxia": ["asphyxia"]},
    "five_class": {kind: [kind] for kind in KINDS},
    "pathology": {"normal": HEALTHY, "pathology": ["asphyxia", "deaf"]},
}
CHILLANTO_NAME = re.compile(r"(?P<infant>\d{4})(?P<fragment>\d{3})?(?P<rest>.*)", re.ASCII)
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
DONATEACRY_NAME = re.compile(
    rf"(?P<install>{INSTALL})-(?P<time>[\d.]+)-(?P<version>[\d.]+)-"
    rf"(?:{INSTALL}-)?"  # the first uploads repeat an id here
    rf"(?P<sex>{'|'.join(SEXES)})-(?P<age>{'|'.join(AGES)})-(?P<reason>{'|'.join(REASONS)})\.",
    re.IGNORECASE,
)
CRYCELEB_PATH = re.compile(
    r"(?:.*/)?audio/(?P<split>[^/]+)/(?P<speaker>[^/]+)/(?P<period>[BD])/(?P=speaker)_(?P=period)_(?P<number>\d+)\.\w+"
)
PERIODS = {"B": "birth", "D": "discharge"}


class BabyChillanto(Tree):
    """The folders 1s_asphyxia, 1s_deaf, 1s_hunger, 1s_normal and 1s_pain; other folders are left out.

    A name is taken to be the infant (four digits), the number of the fragment (three digits, if they follow) and a code
    for the kind of cry, as in 0063001030.wav. The subject is the infant. The column `recording_code` is the name less
    the number, 0063030, and thus the same for all recordings of one infant and kind; the column `kind` is the folder's.

    Args:
        root: the folder that holds the five.
        task: "asphyxia": it against the healthy (normal, hunger, pain), without the deaf; "five_class": all folders;
            "pathology": asphyxia and deaf together against the healthy.

    Source: Reyes-Galaviz et al. 2008, "Evolutionary-neural system to classify infant cry units for pathologies
    identification in recently born babies", MICAI; the task asphyxia is that of Onu et al. 2019, "Neural transfer
    learning for cry-based diagnosis of perinatal asphyxia", Interspeech.
    """

    collection = "chillanto"

    def __init__(
        self, root: str | Path, task: Literal["asphyxia", "five_class", "pathology"] = "asphyxia", **kwargs: Any
    ) -> None:
        super().__init__(root, classes=TASKS[task], **kwargs)
        self.task = task

    def recordings(self) -> list[Clip]:
        """One clip per fragment, in the order of their paths.

        Raises:
            UserError: a folder of the task is not there or empty, or a name does not begin with four digits.
        """
        needed = {f"1s_{kind}" for kinds in TASKS[self.task].values() for kind in kinds}
        if missing := [folder for folder in sorted(needed) if not any((self.root / folder).glob("*"))]:
            raise UserError(
                f"{self.root}: holds no {', '.join(missing)}, which the task {self.task} needs;"
                " `python -m cry_lightning download chillanto` states where to ask for the corpus"
            )
        return super().recordings()

    def clip_at(self, path: str) -> Clip | None:
        """The fragment at `1s_kind/code.wav`."""
        folder = path.partition("/")[0]
        if (kind := FOLDERS.get(folder)) is None:
            return None
        if not (name := CHILLANTO_NAME.match(PurePosixPath(path).stem)):
            raise UserError(
                f"{self.root / path}: the name does not begin with the infant's four digits; rename it, or move it out"
                f" of {folder}"
            )
        columns = {"kind": kind, "recording_code": name["infant"] + name["rest"]}
        return Clip(path, f"{self.collection}:{name['infant']}", label=kind, columns=columns)


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
        if not (code := DONATEACRY_NAME.match(Path(path).name)):
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
        label = columns[self.target] or None
        return Clip(path, subject, label=label, columns=columns, subject_source="stand-in")


class CryCeleb(Tree):
    """Cry sounds at `audio/SPLIT/SPEAKER/PERIOD/SPEAKER_PERIOD_NUMBER.wav`, with a metadata.csv; subjects are infants.

    Columns: period (birth or discharge from hospital), split (the corpus's own, which keeps infants apart), number (of
    the cry sound within its recording), recording_code (infant and period: one recording, cut at its cry sounds).

    Args:
        root: the folder that holds `audio` and metadata.csv.
        target: "period" as the label; none by default: who cries is a subject, no class.

    Source: Budaghyan et al. 2023, "CryCeleb: a speaker verification dataset based on infant cry sounds",
    arXiv:2305.00969.
    """

    collection = "cryceleb"

    def __init__(self, root: str | Path, target: Literal["period"] | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.target = target

    def recordings(self) -> list[Clip]:
        """One clip per cry sound, in the order of their paths.

        Raises:
            UserError: metadata.csv is not there, or no such table.
        """
        clips = super().recordings()
        there = {clip.path for clip in clips}
        if missing := sorted(self._listed() - there):
            warn_once(
                f"{self.root}: metadata.csv lists {len(missing)} cry sounds that are not there, first {missing[0]}; the"
                " corpus is not whole"
            )
        return clips

    def clip_at(self, path: str) -> Clip | None:
        """The cry sound at a path."""
        if not (code := CRYCELEB_PATH.fullmatch(path)):
            return None
        period = PERIODS[code["period"]]
        columns = {
            "period": period,
            "split": code["split"],
            "number": str(int(code["number"])),
            "recording_code": f"{code['speaker']}_{code['period']}",
        }
        label = period if self.target else None
        return Clip(path, f"{self.collection}:{code['speaker']}", label=label, columns=columns)

    def _listed(self) -> set[str]:
        table = self.root / "metadata.csv"
        try:
            with table.open(encoding="utf-8-sig", newline="") as lines:
                listed = {str(row["file_path"] or "") for row in csv.DictReader(lines)} - {""}
        except OSError as error:
            raise UserError(
                f"{table}: cannot be read ({error.strerror}); root is the folder that holds audio and metadata.csv"
            ) from error
        except (KeyError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{table}: is no table with a column file_path, as CryCeleb's is; get it again") from error
        if not listed:
            raise UserError(f"{table}: lists no file; get it again")
        return listed

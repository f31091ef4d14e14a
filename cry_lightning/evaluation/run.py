"""One run's predictions, scored at every level that exists; and what the repeats of a test differ in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from cry_lightning import lineage
from cry_lightning.console import UserError, counted, first_few
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.intervals import MIN_SUBJECTS, Jackknife, evaluate, widened
from cry_lightning.evaluation.metrics import Units, measure, units_at
from cry_lightning.files import nfc, sha256
from cry_lightning.lineage import AnyLineage, FoldedLineage, Leakage, Lineage
from cry_lightning.lineage.check import synthetic_warning
from cry_lightning.lineage.spelling import doubts, joined, named_by_recording

MAX_SHOWN = 20  # classes
MAX_NAMED = 5  # in a remark, where there are many
PARTLY_RECORDINGS = "subjects and recordings"  # where some subjects are not known


@dataclass(frozen=True)
class Tested:
    """The tested rows of one run, and what they share with its training."""

    name: str  # as given on the command line
    folder: Path
    table: pd.DataFrame  # the tested rows
    validation: pd.DataFrame  # the val rows; none where they are what is tested
    labels: pd.Series  # of all predicted rows, validation and test
    leakage: Leakage
    lineage: AnyLineage | None
    doubts: Sequence[str] = ()  # names that look like slips of the pen, see `spelling`

    @property
    def synthetic(self) -> str:
        """That no infant is behind the figures, where that is so."""
        models = self.lineage.folds.values() if isinstance(self.lineage, FoldedLineage) else [self.lineage]
        last = [model.stages[-1] for model in models if model and model.stages]
        return synthetic_warning(last, self.table["subject"].unique())


@dataclass(frozen=True, kw_only=True)
class Run(Tested):
    """What the report states of one run."""

    classes: list[str]
    positive: str | None  # the class of sensitivity; none with three classes or more
    levels: list[Units]
    notes: list[str]  # what the reader must know to trust or doubt the numbers
    shared: str | None = None  # the leading folders of its name that all runs beside it share, if there are such runs

    @property
    def label(self) -> str:
        """What it is called beside other runs: its name without the folders that all of them share."""
        return self.name.removeprefix(self.shared or "")

    @property
    def title(self) -> str:
        """What it is called in figures: beside others its label, alone the stage and its corpus; no path."""
        parts = self.folder.resolve().parts[-2:] if self.shared is None else PurePath(self.label).parts
        return ", ".join(part for part in reversed(parts) if part.strip("/"))

    @property
    def n_unknown(self) -> int:
        """Tested clips whose subject is not known: their recording stands for it."""
        return n_unknown(self.table)

    @property
    def drawn(self) -> str:
        """What the intervals are over, in words."""
        return drawn_of(self.table)

    @cached_property
    def jackknives(self) -> dict[str, Jackknife]:
        """The metrics at each level."""
        return {units.level: Jackknife.of(units, self.positive) for units in self.levels}

    @cached_property
    def results(self) -> pd.DataFrame:
        """Level and the columns of `intervals.evaluate`."""
        found = [evaluate(units, self.positive, self.jackknives[units.level]) for units in self.levels]
        levels = [units.level for units in self.levels]
        return pd.concat(found, keys=levels, names=["level"]).reset_index("level").reset_index(drop=True)

    @property
    def shown_classes(self) -> list[str]:
        """The classes that figures and tables for people have room for, in order: the commonest at the main level."""
        if len(self.classes) <= MAX_SHOWN:
            return self.classes
        commonest = set(self.main_level.table["label"].value_counts(sort=True).index[:MAX_SHOWN])
        return [name for name in self.classes if name in commonest]

    @property
    def main_level(self) -> Units:
        """Recordings where they differ from clips, else clips: what figures and the per-class table show."""
        return _main(self.levels)

    def result(self, level: str, metric: str, name: str = "", predictor: str = "model") -> pd.Series:
        """One row of the results; `name` is the class, for the metrics that have one."""
        return self.results.iloc[self._places[level, metric, name, predictor]]

    @cached_property
    def _places(self) -> dict[tuple[str, str, str, str], int]:
        keys = self.results[["level", "metric", "class", "predictor"]].itertuples(index=False, name=None)
        return {key: place for place, key in enumerate(keys)}


def n_unknown(table: pd.DataFrame) -> int:
    """Clips of a tested table whose subject is not known."""
    return int(table.loc[table[predictions.SOURCE] == "unknown", "clip"].nunique())


def drawn_of(table: pd.DataFrame) -> str:
    """What the intervals of a tested table are over, in words: of unknown subjects, recordings."""
    unknown = n_unknown(table)
    if 0 < unknown < table["clip"].nunique():
        return PARTLY_RECORDINGS
    return "recordings" if unknown else "subjects"


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """The same runs, labelled by what distinguishes their names: the leading folders that all share are dropped."""
    if len(runs) < 2:
        return list(runs)
    levels = zip(*(run.name.split("/")[:-1] for run in runs), strict=False)
    shared = "".join(f"{folders[0]}/" for folders in takewhile(lambda folders: len(set(folders)) == 1, levels))
    return [replace(run, shared=shared) for run in runs]


def read_run(given: str, split: str) -> Tested:
    """Read a run folder, or a predictions table, that the user named.

    Raises:
        UserError: there is no such table, it is damaged, or it has no rows to evaluate.
    """
    path = predictions.find(given)
    whole = predictions.read(path)
    table, others = (whole[rows].reset_index(drop=True) for rows in (whole["split"] == split, whole["split"] != split))
    if table.empty:
        raise UserError(f"{path}: no {split} rows; try --split {whole['split'].iloc[0]}")
    name = given if path.name != "predictions.csv" else str(path.parent)
    known = lineage.of_table(path)
    validation = others if split == "test" else others.iloc[:0]
    verdict = lineage.check(table, known)
    subjects = whole["subject"][whole[predictions.SOURCE] != "unknown"]
    named = whole.loc[whole[predictions.SOURCE] == "given", ["subject", "recording"]].drop_duplicates()
    by_recording = named_by_recording(named.itertuples(index=False, name=None))
    doubted = [
        *doubts(subjects.unique(), whole["label"].unique()),
        *by_recording,
        *_chose_themselves(table, validation),
        *_other_checkpoint(path.parent, known),
    ]
    return Tested(name, path.parent, table, validation, whole["label"], verdict, known, doubted)


def _chose_themselves(table: pd.DataFrame, validation: pd.DataFrame) -> Iterator[str]:
    """That subjects are among the tested and the validation rows of one fold, where some are."""
    here, there = (rows[["subject", "repeat", "fold"]].drop_duplicates() for rows in (table, validation))
    if n := here.merge(there)["subject"].nunique():
        of = f"of {here['subject'].nunique()} tested subjects"
        yield (
            f"{counted(n, f'{of} is', f'{of} are')} among the validation rows of the same fold, too: what is chosen on"
            " these (checkpoint, thresholds, calibration) flatters the model."
        )


def _other_checkpoint(folder: Path, known: AnyLineage | None) -> Iterator[str]:
    """That the checkpoint beside the predictions is not the one that made them, where that is known."""
    made_by = known.checkpoint if isinstance(known, Lineage) else ""
    if made_by and (folder / "best.ckpt").is_file() and made_by not in map(sha256, folder.glob("*.ckpt")):
        yield "The best.ckpt beside these predictions is not the checkpoint that made them: test again."


def pool(runs: list[Tested]) -> Tested:
    """The folds of one cross-validation as one run; each fold's leakage is found by its own lineage.

    Raises:
        UserError: the runs have different classes.
    """
    first = runs[0]
    for run in runs[1:]:
        if predictions.classes_of(run.table) != predictions.classes_of(first.table):
            raise UserError(f"--pool: {run.name} and {first.name} have different classes")
    name = f"{first.name} and {len(runs) - 1} more, pooled"
    table = pd.concat([run.table for run in runs], ignore_index=True)
    validation = pd.concat([run.validation for run in runs], ignore_index=True)
    labels = pd.concat([run.labels for run in runs], ignore_index=True)
    models: dict[tuple[str, str], Lineage] = {}
    for number, run in enumerate(runs):  # which may all be fold 0 of repeat 0
        own = run.lineage or lineage.UNKNOWN
        each = own.folds if isinstance(own, FoldedLineage) else {("0", "0"): own}
        models |= {(f"{number}: {repeat}", fold): one for (repeat, fold), one in each.items()}
    known = FoldedLineage(models)
    verdict = lineage.worst([run.leakage for run in runs])
    doubts_of_all = list(dict.fromkeys(doubt for run in runs for doubt in run.doubts))
    return Tested(name, first.folder.parent / "pooled", table, validation, labels, verdict, known, doubts_of_all)


def evaluated(folder: Path, positive: str | None = None) -> Run:
    """A run scored on its tests; raises as `read_run` and `evaluate_run` do."""
    return evaluate_run(read_run(str(folder), "test"), "test", positive)


def evaluate_run(run: Tested, split: str, positive: str | None) -> Run:
    """Score a run.

    Raises:
        UserError: a clip was tested twice in one repeat, or `positive` is not a class.
    """
    table = run.table
    again = table.duplicated(["clip", "repeat"])
    if again.any():
        clip, repeat = table.loc[again, ["clip", "repeat"]].iloc[0]
        raise UserError(f"{run.name}: clip {clip} is in several folds of repeat {repeat}; number such folds as repeats")

    classes = predictions.classes_of(table)
    positive = _positive_class(run.labels, classes, positive, run.name)
    levels, notes = _levels(table)
    return Run(
        **vars(run),
        classes=classes,
        positive=positive,
        levels=levels,
        notes=[
            *filter(None, [run.synthetic]),
            *run.doubts,
            *run.leakage.remarks,
            *filter(None, [run.lineage.left_out_in_words if run.lineage else ""]),
            *_whose(table),
            *_notes(table, split),
            *_spread(table, _main(levels)),
            *notes,
            *_level_notes(levels, classes, drawn_of(table)),
        ],
    )


def _positive_class(labels: pd.Series, classes: list[str], wanted: str | None, name: str) -> str | None:
    wanted = wanted and nfc(wanted)
    if wanted is not None and (wanted not in classes or len(classes) != 2):
        raise UserError(f"{name}: --positive {wanted} must be one of exactly two classes, here {', '.join(classes)}")
    if len(classes) != 2:
        return None
    return wanted or min(reversed(classes), key=lambda name: (labels == name).sum())


def _levels(table: pd.DataFrame) -> tuple[list[Units], list[str]]:
    """The levels that tell something of their own, and why the others are left out."""
    levels, notes = [units_at("clip", table)], []
    for level, finer in (("recording", "clip"), ("subject", "recording")):
        if level == "subject" and (table[predictions.SOURCE] == "unknown").any():
            notes.append("No subject level: the subjects are not known.")
        elif table[level].nunique() == table[finer].nunique():
            notes.append(f"No {level} level: every {level} has just one {finer}.")
        elif (units := units_at(level, table)).n_subjects:
            levels.append(units)
        else:
            notes.append(f"No {level} level: every {level} has clips of several labels.")
    return levels, notes


def _main(levels: list[Units]) -> Units:
    return levels[1] if len(levels) > 1 and levels[1].level == "recording" else levels[0]


def _whose(table: pd.DataFrame) -> Iterator[str]:
    """What stands for subjects that are not known as such."""
    source = table[predictions.SOURCE][~joined(table).duplicated()]
    drawn, of = drawn_of(table), f"{n_unknown(table)} of {table['clip'].nunique()} tested clips"
    if drawn == PARTLY_RECORDINGS:
        yield (
            f"Intervals are over subjects, and over recordings where the subject is not known ({of}); those over"
            " infants alone would be wider."
        )
    elif drawn == "recordings":
        yield (
            f"Intervals are over recordings, since the subjects of {of} are not"
            " known; those over infants would be wider. Nothing is known of how the model does with other infants."
        )
    if stand_ins := int((source == "stand-in").sum()):
        yield (
            f"{stand_ins} of {len(source)} tested subjects are stand-ins for infants, such as app installs or videos:"
            " one may hold several infants, or one infant be in several."
        )


def _notes(table: pd.DataFrame, split: str) -> Iterator[str]:
    if split == "val":
        yield "These are validation rows: they chose the checkpoint, so the figures flatter the model."
    repeats, folds = table["repeat"].nunique(), table.groupby("repeat")["fold"].nunique().max()
    if folds > 1:
        yield (
            f"{folds} folds are pooled, though their scores come from different models: this can lower AUC a little."
            f" Intervals are {widened(folds) ** 0.5:.2f} times as wide as one model's, since all share training clips."
        )
    if repeats > 1:
        yield f"Each figure is the mean over {repeats} repeats; curves and confusion matrix pool the repeats."


def _spread(predicted: pd.DataFrame, units: Units) -> Iterator[str]:
    """How much the repeats differ, and in what; the intervals, over subjects, do not contain this."""
    repeats = {name: table for name, table in units.table.groupby("repeat")}
    if len(repeats) == 1:
        return
    of_repeat = {name: measure(each)["uar", ""][0] for name, each in repeats.items()}
    found = repeats_in_words(pd.Series(of_repeat), division_of(predicted))
    yield f"UAR at {units.level} level {found}; the intervals, over {drawn_of(predicted)}, do not contain it."


def _level_notes(levels: list[Units], classes: list[str], drawn: str) -> Iterator[str]:
    """Each remark once, with the levels to which it applies."""
    at: dict[str, list[str]] = {}
    for units in levels:
        for remark in _remarks(units, classes, drawn):
            at.setdefault(remark, []).append(units.level)
    for remark, names in at.items():
        named = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        yield f"At {named} level{'s' * (len(names) > 1)}: {remark}"


def _remarks(units: Units, classes: list[str], drawn: str) -> Iterator[str]:
    of_class = units.table.groupby("label")["subject"].nunique().reindex(classes, fill_value=0)
    rare = [f"{name} ({n})" for name, n in of_class.items() if 0 < n < MIN_SUBJECTS]
    absent = [name for name in classes if of_class[name] == 0]
    if len(rare) + len(absent) > MAX_SHOWN:
        rare, absent = ([first_few(names, MAX_NAMED)] for names in (rare, absent))
    if units.n_subjects < MIN_SUBJECTS:
        tested = counted(units.n_subjects, "was", "were")
        yield f"no intervals, since they need {MIN_SUBJECTS} {drawn} and {tested} tested."
    elif rare:
        yield (
            f"fewer than {MIN_SUBJECTS} tested {drawn} have {', '.join(rare)}: too few for intervals of the figures of"
            " these classes, and of UAR, macro-F1 and AUC, which average over classes."
        )
    if units.table["label"].nunique() == 1:
        yield f"no case of {', '.join(absent)} was tested; so there is no UAR, macro-F1, AUC or average precision."
    elif absent:
        yield f"no case of {', '.join(absent)} was tested; averages over classes leave them out."
    if len(answers := set(units.predicted)) == 1:
        yield f"the model answered {answers.pop()} to every case."
    if units.n_left_out:
        one, several = (f"{units.level}{ending} with several labels or subjects" for ending in ("", "s"))
        yield f"{counted(units.n_left_out, f'{one} is', f'{several} are')} left out, having no one right answer."


def division_of(table: pd.DataFrame) -> pd.Series:
    """The number of the division of each repeat: two have the same where every clip is in the same fold of both."""
    each = pd.util.hash_pandas_object(table[["clip", "fold"]], index=False)
    of_repeat = each.groupby(table["repeat"], sort=False).sum()
    return pd.Series(pd.factorize(of_repeat)[0], of_repeat.index)


def spread_of_repeats(values: pd.Series, division: pd.Series) -> tuple[float, float]:
    """Standard deviations of a figure over training seeds of one division, and over divisions; NaN where not repeated.

    That over divisions is what is left when the seeds' part in the means of the divisions is taken off, if they have
    several seeds each; else both are in it. It is 0 where the seeds explain all.

    Args:
        values: of each repeat.
        division: of each repeat, see `division_of`.

    Source: Searle, Casella and McCulloch 1992, "Variance Components", ch. 3 (one-way, ANOVA estimators).
    """
    groups = values.groupby(division)
    of_seeds, of_divisions = groups.var(ddof=1).mean(), groups.mean().var(ddof=1)
    if np.isfinite(of_seeds):
        of_divisions = np.maximum(of_divisions - of_seeds / groups.size().mean(), 0)
    return float(np.sqrt(of_seeds)), float(np.sqrt(of_divisions))


def repeats_in_words(values: pd.Series, division: pd.Series) -> str:
    """Both deviations, as far as they are known: "± 0.012 (SD) over 3 training seeds"."""
    n_divisions, per_division = division.nunique(), len(division) / division.nunique()
    of_seeds, of_divisions = spread_of_repeats(values, division)
    parts = []
    if np.isfinite(of_seeds):
        parts.append(
            f"± {of_seeds:.3f} (SD) over {per_division:g} training seeds" + " of a division" * (n_divisions > 1)
        )
    if np.isfinite(of_divisions):
        how = "beyond the seeds'" if parts else "each trained from its own seed"
        parts.append(f"± {of_divisions:.3f} (SD) over {n_divisions} divisions into folds, {how}")
    return " and ".join(parts)

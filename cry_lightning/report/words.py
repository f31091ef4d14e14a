"""What is stated of runs in every form of the report, and what a reader asked for besides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cry_lightning.console import first_few
from cry_lightning.evaluation.clinical import Readout, chosen_rows, clinical_rows
from cry_lightning.evaluation.compare import Rows, cell
from cry_lightning.evaluation.intervals import MIN_SUBJECTS
from cry_lightning.evaluation.metrics import LEVELS
from cry_lightning.evaluation.run import MAX_NAMED, Run

POSITIVE = "that of sensitivity; unless named, the rarer one in all of predictions.csv, val and test"
KIND = {"subjects": "infant", "recordings": "recording"}  # of what the intervals are over
ALL_CLASSES = "The {} commonest of {} classes (metrics.csv has all)"
BRACKETS = """\
hold 95 % intervals over {drawn}, because the clips of one {kind} resemble each other: the metric is computed without
each {kind} in turn (jackknife), and its variance makes a Wilson interval with Student's t. They tell what another
choice of as many test {drawn} of each class might have given, not what another training might. There is none where a
class that the figure rests on has fewer than {min_subjects} {drawn}."""
TERMS = {
    "UAR": "(unweighted average recall, balanced accuracy) is the mean of the recalls of the classes.",
    "macro-F1": "is the mean of their F1 scores.",
    "AUC": "is the area under the ROC curve (each class against the rest, then the mean; 0.5 is chance).",
    "always X": "is the majority baseline: it says the class commonest among the tested cases of that level, whatever"
    " the input. The gain is model minus baseline, on the same subjects.",
}
COARSER = "scores are the means of those of all clips of a case."
CLINICAL = """\
Clinical figures for {positive}, at {level} level. Recalibration (Platt), thresholds and cut-offs of confidence were
chosen on validation rows; the figures are of the test. The answer whose accuracy is given here is the class of the
higher recalibrated probability; that of all other tables is the class of the higher score as predicted."""
CHOSEN = "Chosen on validation rows (thresholds are of the probability that intercept and slope make of a score):"
UNPAIRED = "Runs that are not paired were not tested on the same clips: do not set their figures side by side."
LEAKS = "leaks.csv"  # beside a report
STAMPS = {
    "CLEAN": "No tested subject or sound was found in the training data of any stage.",
    "SUBJECTS UNKNOWN": "Nothing tested was found in the training data, but it is not known whose all recordings are.",
    "UNKNOWN LINEAGE": "It cannot be determined whether the model was trained on what it is tested on.",
    "LEAKY": "The model was trained on what it is tested on: these figures say nothing about other subjects.",
}


@dataclass(frozen=True)
class Extras:
    """What a run's section has on request: the clinical figures, and the metrics of subgroups with their title."""

    readout: Readout | None = None
    subgroups: tuple[str, Rows] | None = None

    @property
    def clinical(self) -> list[tuple[str, Rows]]:
        """The clinical figures and what was chosen for them, each with its title."""
        if self.readout is None:
            return []
        title = CLINICAL.format(positive=self.readout.positive, level=self.readout.level)
        title = " ".join([*title.split(), *self.readout.remarks])
        return [(title, clinical_rows(self.readout)), (CHOSEN, chosen_rows(self.readout))]

    @property
    def tables(self) -> list[tuple[str, Rows]]:
        """All of them."""
        return [*self.clinical, *([self.subgroups] if self.subgroups else [])]


@dataclass(frozen=True)
class Asked:
    """How a report is wanted.

    Args:
        style: of the figures.
        with_audio: embed the clips of the worst mistakes.
        checklist: whose items are filled in; empty for none.
        command: that writes this report again.
        send_report: send report.html to the dashboard, where the runs are shown there.
    """

    style: Literal["screen", "paper"] = "screen"
    with_audio: bool = False
    checklist: str = ""
    command: str = ""
    send_report: bool = False


def verdict(run: Run) -> str:
    """Whether UAR at the main level beats the majority baseline, in one sentence."""
    level = run.main_level.level
    uar, baseline, gain = (run.result(level, "uar", predictor=name) for name in ("model", "majority", "gain"))
    if np.isnan(uar["value"]):
        tested = set(run.main_level.table["label"])
        absent = first_few([name for name in run.classes if name not in tested], MAX_NAMED)
        return f"There is no UAR at {level} level, nor one of the majority baseline: no case of {absent} was tested."
    if run.leakage.status == "LEAKY":
        weight = "the test leaks, so this says nothing about other subjects"
    elif gain[["low", "high"]].isna().any():
        weight = "there is no interval, so this says nothing about other subjects"
    elif gain["high"] < 0:
        worse = f"does worse than always saying {run.main_level.majority_class} on these {run.drawn}"
        weight = f"by a gain of {cell(gain)} the model {worse} (look at labels and validation)"
    elif gain["low"] > 0:
        weight = f"the gain of {cell(gain)} is more than chance in the choice of {run.drawn} explains"
    else:
        weight = f"the gain of {cell(gain)} is no evidence that the model does better"
    if run.leakage.status == "SUBJECTS UNKNOWN":
        some, then = ("", "says nothing about") if run.drawn == "recordings" else ("some ", "may not hold for")
        weight += f", and as {some}subjects are not known it {then} other infants"
    return f"UAR {cell(uar)} at {level} level, where the majority baseline has {baseline['value']:.3f}: {weight}."


def lineage(run: Run) -> str:
    """The stamp, and what it rests on."""
    found = run.leakage.reason or "no tested subject or clip was found in the training data of any stage"
    loss = " Scores rank, but are not calibrated probabilities." * run.leakage.uncalibrated
    pairs = f" {LEAKS} names every such clip, and what it was found as." if run.leakage.overlaps else ""
    return f"Lineage: {run.leakage.status}, {found}.{pairs}{loss}"


def drawn(runs: Sequence[Run]) -> str:
    """What the intervals of these runs are over."""
    found = list(dict.fromkeys(run.drawn for run in runs))
    return found[0] if len(found) == 1 else "subjects (recordings where SUBJECTS UNKNOWN)"


def method(runs: Sequence[Run]) -> dict[str, str]:
    """How to read the numbers: each term, and what it means."""
    over = drawn(runs)
    brackets = BRACKETS.format(min_subjects=MIN_SUBJECTS, drawn=over, kind=KIND.get(over, "of these"))
    coarser = [level for level in LEVELS[1:] if any(level == units.level for run in runs for units in run.levels)]
    terms = {"Brackets": " ".join(brackets.split())} | TERMS
    return terms | ({f"At {' and '.join(coarser)} level": COARSER} if coarser else {})


def classes_shown(run: Run) -> str:
    """The title of the table of classes."""
    n_shown = len(run.shown_classes)
    shown = "Each class" if n_shown == len(run.classes) else ALL_CLASSES.format(n_shown, len(run.classes))
    return f"{shown}, at {run.main_level.level} level:"

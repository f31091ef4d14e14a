"""What a run says by itself to the questions of a reporting guideline, or of a model card; in sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cry_lightning.console import counted, first_few
from cry_lightning.evaluation.clinical import clinical_rows
from cry_lightning.evaluation.compare import SUMMARY, cell
from cry_lightning.evaluation.run import PARTLY_RECORDINGS, Run
from cry_lightning.report import words
from cry_lightning.report.provenance import Provenance, named, versions
from cry_lightning.report.words import Extras

MEASURES = (
    "Accuracy, UAR (balanced accuracy), macro-F1, AUC, and recall, precision, F1 and AUC of each class, beside the"
    " majority baseline; confusion matrix, ROC and precision-recall curves."
)
INTERVALS = "95 % intervals over {drawn}, by the jackknife."
NO_INTERVALS = "No 95 % intervals: too few {drawn} were tested."
CLINICAL_MEASURES = (
    " Calibration (Brier score, slope, in the large, expected calibration error), net benefit, and accuracy at several"
    " shares of cases answered."
)
LEFT_OUT = "Clips that could not be decoded were left out when the feature cache was built; prepare lists them."
NOT_BALANCED = "Classes were neither drawn equally often nor weighted in the loss."
MOST_CLASSES = 12  # whose counts are listed


@dataclass(frozen=True)
class Facts:
    """Each property is an answer; empty where the run does not tell."""

    run: Run
    extras: Extras

    @cached_property
    def made(self) -> Provenance:
        """What was run."""
        return Provenance(self.run)

    def __getitem__(self, name: str) -> str:
        """The answer of this name."""
        return str(getattr(self, name))

    def _settings(self, *names: str) -> str:
        """Some settings as one sentence; empty where none is known."""
        known = self.made.settings
        text = "; ".join(f"{name}: {known[name]}" for name in names if name in known)
        return f"{text[0].upper()}{text[1:]}." if text else ""

    @property
    def data(self) -> str:
        """Whence the recordings are."""
        trained = dict.fromkeys(f"{stages[0].corpus} (stage {named(stages)})" for stages in self.made.stages)
        corpora = f"Trained on {', '.join(trained)}." if trained else ""
        tested = f"Tested on {self._elsewhere}, another corpus." if self._elsewhere else ""
        settings = self._settings("corpus")
        return " ".join(filter(None, [corpora, "That of training:" * bool(settings and tested), settings, tested]))

    @property
    def _elsewhere(self) -> str:
        """The corpus of the test, where it is known to be another than that of the last training."""
        tested = self.made.tested_on
        return tested if tested and tested != self.made.stages[-1][0].corpus else ""

    @property
    def preparation(self) -> str:
        """How sound became what the network is given."""
        names = ("front end", "clip length (s)", "normalisation", "augmentation of waveforms")
        return self._settings(*names, "augmentation of features")

    @property
    def classes(self) -> str:
        """What is distinguished."""
        positive = f"; positive: {self.run.positive}" if self.run.positive else ""
        return f"Labels: {first_few(self.run.classes, MOST_CLASSES)}{positive}."

    @property
    def size(self) -> str:
        """How many clips and subjects each part has."""
        counts = [(box.title, box.lines[: 1 if box.kind == "test" else 2]) for box in self.made.boxes]
        return "; ".join(f"{title}: {', '.join(lines)}" for title, lines in counts) + "."

    @property
    def missing(self) -> str:
        """What is not there."""
        found = [f"{units.n_left_out} {units.level}s" for units in self.run.levels if units.n_left_out]
        cases = f" Without one right answer, and left out: {', '.join(found)}." if found else ""
        stated = self.run.lineage.left_out_in_words if self.run.lineage else ""
        is_recorded = getattr(self.run.lineage, "listed", 0) > 0
        return ((stated or (LEFT_OUT if self.made.config and not is_recorded else "")) + cases).strip()

    @property
    def partition(self) -> str:
        """How the data were divided."""
        settings = self._settings("division")
        if self._elsewhere:
            of_training = f"That of training: {settings}" if settings else ""
            settings = f"Tested on another corpus, {self._elsewhere}. {of_training}".strip()
        return f"{settings or 'No file of the run tells how.'} {words.lineage(self.run)}"

    @property
    def model(self) -> str:
        """The kind of model, and how it was trained."""
        names = ("task", "network", "starts from", "network frozen", "loss", "optimizer", "schedule", "epochs at most")
        return " ".join(filter(None, [self._fusion, self._settings(*names, "checkpoint chosen by", "seed")]))

    @property
    def _fusion(self) -> str:
        """Which runs are fused, and how; empty where none are."""
        fusion = self.made.fusion
        if not fusion:
            return ""
        members = fusion.get("members")
        names = ["/".join(Path(str(name)).parts[-2:]) for name in members] if isinstance(members, list) else []
        calibrated = ", their temperatures scaled" if fusion.get("calibrate") else ""
        return f"A fusion of {counted(len(names), 'run')} by {fusion.get('method')}{calibrated}: {', '.join(names)}."

    @property
    def clusters(self) -> str:
        """Whose resemblance the intervals take into account."""
        if not self._some_interval:
            return f"There are no intervals, for which too few {self.run.drawn} were tested."
        return f"All intervals are over {self.run.drawn}; repeats and folds as noted beside the results."

    @cached_property
    def _some_interval(self) -> bool:
        """Whether any figure at the main level has an interval."""
        found = self.run.results.query("level == @self.run.main_level.level and predictor == 'model'")
        return bool(found["low"].notna().any())

    @property
    def lacking(self) -> Mapping[str, str]:
        """What an answer does not tell of this run, and the authors have to: by the answer's name."""
        told, fused = self.made.settings, bool(self.made.fusion)
        figures = [self.run.result(self.run.main_level.level, metric) for metric in SUMMARY]
        without = [name for name, figure in zip(SUMMARY.values(), figures, strict=True) if np.isnan(figure["low"])]
        known = self.made.checkpoint or (len(self.made.models) > 1 and not fused)
        found = {
            "partition": "" if "division" in told else "how the data were divided",
            "calculation": "" if known else "the checkpoints of its members" if fused else "the checkpoint",
            "specification": "" if self.made.checkpoint else "the model itself",
            "performance": f"the precision of {', '.join(without)}, of too few {self.run.drawn}" if without else "",
            "model": "the members" if fused else "" if "task" in told else "the model, and how it was trained",
            "preparation": "" if "front end" in told else "the front end",
        }
        return {name: text for name, text in found.items() if text}

    @property
    def measures(self) -> str:
        """What was computed."""
        intervals = INTERVALS if self._some_interval else NO_INTERVALS
        return f"{MEASURES} {intervals.format(drawn=self.run.drawn)}" + CLINICAL_MEASURES * bool(self.extras.readout)

    @property
    def updating(self) -> str:
        """What was done to the predictions."""
        if self.extras.readout is None:
            return self._learned or "The predictions are reported as they are, without recalibration."
        recalibrated = "Recalibrated by Platt's method on the validation rows of each fold; both are reported."
        is_any = len(self.extras.readout.scores) > 1
        return " ".join(
            [*[self._learned] * bool(self._learned), *[recalibrated] * is_any, *self.extras.readout.remarks]
        )

    @property
    def _learned(self) -> str:
        """What a fusion learned from rows that no member was trained on; empty where it learned nothing."""
        fusion, told = self.made.fusion, []
        if fusion.get("calibrate"):
            scaled = "recalibrated by a temperature, fitted to the validation rows, before they were fused"
            told.append(f"Each member's probabilities were {scaled}.")
        if fusion.get("method") == "weighted":
            told.append("The weights of the members were fitted to the validation rows.")
        if fusion.get("method") == "stacking":
            learned = fusion.get("learned")
            folds = learned if isinstance(learned, list) else []
            whence = dict.fromkeys(str(fold.get("stacking")) for fold in folds if isinstance(fold, dict))
            regression = f"a logistic regression on the members', fitted to the {' and the '.join(whence)}"
            told.append(f"The fused probabilities are those of {regression}.")
        return " ".join(told)

    @property
    def calibration(self) -> str:
        """Slope and level of the probabilities."""
        if self.extras.readout is None:
            loss = "Scores rank, but are not calibrated probabilities. " * self.run.leakage.uncalibrated
            return f"{loss}Calibration was not examined (evaluate --clinical does, for two classes)."
        rows = clinical_rows(self.extras.readout)[1:]
        shown = ("Brier score", "calibration slope", "calibration in the large")
        figures = "; ".join(f"{name}, {at}: {value}" for name, at, value in rows if name in shown) + "."
        return " ".join([figures, *self.extras.readout.remarks])

    @property
    def calculation(self) -> str:
        """Of which files the predictions are."""
        n_models = len(self.made.models)
        if self.made.checkpoint:
            whose = f"the model of checkpoint {self.made.checkpoint[:12]}"
        elif self.made.fusion:
            whose = "fusion of the predictions of its members"
        else:
            whose = f"{n_models} models, one for each fold (checkpoints: lineage.json)" if n_models > 1 else "the model"
        return f"By {whose}, to {self._table}."

    @property
    def imbalance(self) -> str:
        """What was done about rare classes."""
        if not self.made.recipe:
            return ""
        names = ("classes drawn equally often", "weights of classes in the loss")
        return self._settings(*names) or NOT_BALANCED

    @property
    def output(self) -> str:
        """What the model gives out."""
        kind = "Scores that rank" if self.run.leakage.uncalibrated else "A probability of each class"
        chosen = " Thresholds of 90 % sensitivity and of 90 % specificity were chosen on validation rows."
        return f"{kind}; the answer is the class of the highest.{chosen if self.extras.readout else ''}"

    @property
    def differences(self) -> str:
        """Training data beside those of the test."""
        if not self.made.stages:
            return ""
        last, table = self.made.stages[-1][0], self.run.table
        if self._elsewhere:
            return f"Last trained on {last.corpus}; tested on another corpus, {self._elsewhere}."
        if self.made.tested_on:
            return f"Trained and tested on parts of one corpus, {last.corpus}."
        tested = sorted({subject.partition(":")[0] for subject in table["subject"].unique() if ":" in subject})
        whose = f"the ids of {', '.join(tested)}" if tested else "no known ids"
        return f"Last trained on {last.corpus}; the tested subjects have {whose}."

    @property
    def flow(self) -> str:
        """Who was tested, by class."""
        level = self.run.main_level.level
        counts = [
            (name, self.run.result(level, "recall", name)[["n_units", "n_subjects"]])
            for name in self.run.shown_classes[:MOST_CLASSES]
        ]
        whose = "recordings" if self.run.drawn == "recordings" else "subjects"
        texts = [f"{name}: {units} {level}s of {subjects} {whose}" for name, (units, subjects) in counts]
        stand_in = " A recording whose subject is not known counts as one." * (self.run.drawn == PARTLY_RECORDINGS)
        n_more = len(self.run.classes) - len(texts)
        return f"Tested: {'; '.join(texts)}{f' and {n_more} more' * (n_more > 0)}.{stand_in}"

    @property
    def subgroups(self) -> str:
        """Which subgroups were examined."""
        if self.extras.subgroups is None:
            return ""
        title, rows = self.extras.subgroups
        return f"{title} {len(rows) - 1} rows in the report."

    @property
    def specification(self) -> str:
        """Where the model is."""
        if not self.made.checkpoint:
            return ""
        found = f"The checkpoint (SHA-256 {self.made.checkpoint}) holds network and front end"
        return f"{found}; cry_lightning.load and predict apply it."

    @property
    def performance(self) -> str:
        """The main figures."""
        level = self.run.main_level.level
        texts = [f"{name} {cell(self.run.result(level, metric))}" for metric, name in SUMMARY.items()]
        return f"At {level} level: {', '.join(texts)}."

    @property
    def verdict(self) -> str:
        """Whether it does better than the majority baseline."""
        return words.verdict(self.run)

    @property
    def limits(self) -> str:
        """What the reader must know to doubt the numbers."""
        return " ".join([words.lineage(self.run), *self.run.notes])

    @property
    def software(self) -> str:
        """Versions."""
        return ", ".join(f"{name} {version}" for name, version in versions().items()) + " (of this evaluation)."

    @property
    def code(self) -> str:
        """The program, and where its commands are, if they are known."""
        commands = "; commands are in the report" if self.made.commands else ""
        return f"cry_lightning {versions().get('cry_lightning', '')} (Apache-2.0){commands}."

    @property
    def blinding(self) -> str:
        """What the network is given."""
        return "The network is given the feature of the sound, and neither label nor name." * bool(self.made.recipe)

    @property
    def indeterminate(self) -> str:
        """Cases without an answer."""
        left = " What abstention would do is reported." if self.extras.readout else ""
        return f"Every tested clip has an answer; none is indeterminate.{left}"

    @property
    def errors(self) -> str:
        """What was done about mistakes."""
        units = self.run.levels[0]
        if (units.predicted == units.table["label"]).all():
            return f"No tested {units.level} was mistaken."
        return "The most confident mistakes are listed in the report."

    @property
    def crosstab(self) -> str:
        """Counts of answers by label."""
        if len(self.run.classes) > MOST_CLASSES:
            return "The confusion matrix is in the report."
        units = self.run.main_level
        counts = units.table.assign(answer=units.predicted).value_counts(["label", "answer"], sort=False)
        texts = [f"{label} as {answer}: {count}" for label, answer, count in counts.reset_index().to_numpy().tolist()]
        repeats = units.table["repeat"].nunique()
        pooled = f", {repeats} repeats pooled, so that each counts {repeats} times" if repeats > 1 else ""
        return f"{units.level.capitalize()}s, by label and answer{pooled}: {'; '.join(texts)}."

    @property
    def stored(self) -> str:
        """Where the outputs are."""
        return f"Every output is in {self._table}, to which lineage.json is bound by its hash."

    @property
    def _table(self) -> str:
        found = self.made.table
        return f"predictions.csv (SHA-256 {found[:12]}...)" if found else "the predictions.csv of each fold"

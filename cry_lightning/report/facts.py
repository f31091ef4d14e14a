"""What a run says by itself to the questions of a reporting guideline, or of a model card; in sentences."""

from dataclasses import dataclass
from functools import cached_property

from cry_lightning.evaluation.clinical import clinical_rows
from cry_lightning.evaluation.compare import SUMMARY, cell
from cry_lightning.evaluation.run import PARTLY_RECORDINGS, Run
from cry_lightning.report import words
from cry_lightning.report.provenance import Provenance, versions
from cry_lightning.report.words import Extras

MEASURES = (
    "Accuracy, UAR (balanced accuracy), macro-F1, AUC, and recall, precision, F1 and AUC of each class, beside the"
    " majority baseline; confusion matrix, ROC and precision-recall curves. 95 % intervals over {drawn}, by the"
    " jackknife."
)
CLINICAL_MEASURES = (
    " Calibration (Brier score, slope, in the large, expected calibration error), net benefit, and accuracy at several"
    " shares of cases answered."
)
LEFT_OUT = "Clips that could not be decoded were left out when the feature cache was built; prepare lists them."
NOT_BALANCED = "Classes were neither drawn equally often nor weighted in the loss."
MOST_CLASSES = 12  # whose counts are told


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
        told = self.made.settings
        text = "; ".join(f"{name}: {told[name]}" for name in names if name in told)
        return f"{text[0].upper()}{text[1:]}." if text else ""

    @property
    def data(self) -> str:
        """Whence the recordings are."""
        trained = dict.fromkeys(f"{stages[0].corpus} (stage {stages[0].stage})" for stages in self.made.stages)
        corpora = f"Trained on {', '.join(trained)}." if trained else ""
        return " ".join(filter(None, [corpora, self._settings("corpus")]))

    @property
    def preparation(self) -> str:
        """How sound became what the network is given."""
        names = ("front end", "clip length (s)", "normalisation", "augmentation of waveforms")
        return self._settings(*names, "augmentation of features")

    @property
    def classes(self) -> str:
        """What is told apart."""
        positive = f"; positive: {self.run.positive}" if self.run.positive else ""
        return f"Labels: {', '.join(self.run.classes[:MOST_CLASSES])}{self._more()}{positive}."

    def _more(self) -> str:
        more = len(self.run.classes) - MOST_CLASSES
        return f" and {more} more" if more > 0 else ""

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
        said = self.run.lineage.left_out_in_words if self.run.lineage else ""
        is_recorded = getattr(self.run.lineage, "listed", 0) > 0
        return ((said or (LEFT_OUT if self.made.config and not is_recorded else "")) + cases).strip()

    @property
    def partition(self) -> str:
        """How the data were divided."""
        return f"{self._settings('division') or 'No config.yaml tells how.'} {words.lineage(self.run)}"

    @property
    def model(self) -> str:
        """The kind of model, and how it was trained."""
        names = ("task", "network", "starts from", "network frozen", "loss", "optimizer", "schedule", "epochs at most")
        return self._settings(*names, "checkpoint chosen by", "seed")

    @property
    def clusters(self) -> str:
        """Whose resemblance the intervals take into account."""
        return f"All intervals are over {self.run.drawn}; repeats and folds as noted beside the results."

    @property
    def measures(self) -> str:
        """What was computed."""
        return MEASURES.format(drawn=self.run.drawn) + (CLINICAL_MEASURES if self.extras.readout else "")

    @property
    def updating(self) -> str:
        """What was done to the predictions."""
        if self.extras.readout is None:
            return "The predictions are reported as they are, without recalibration."
        recalibrated = "Recalibrated by Platt's method on the validation rows of each fold; both are reported."
        is_any = len(self.extras.readout.scores) > 1
        return " ".join([*[recalibrated] * is_any, *self.extras.readout.remarks])

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
        checkpoint = self.made.checkpoint[:12] or "not known, or several"
        return f"By the model, to {self._table}; checkpoint: {checkpoint}."

    @property
    def imbalance(self) -> str:
        """What was done about rare classes."""
        if not self.made.config:
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
        own = (self.made.config.get("name"), self.run.folder.parent.name)
        if own == (last.stage, last.corpus):  # in the folder of its own fit, a test is of the same corpus
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
        told = [f"{name}: {units} {level}s of {subjects} {whose}" for name, (units, subjects) in counts]
        stand_in = " A recording whose subject is not known counts as one." * (self.run.drawn == PARTLY_RECORDINGS)
        return f"Tested: {'; '.join(told)}{self._more()}.{stand_in}"

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
        told = [f"{name} {cell(self.run.result(level, metric))}" for metric, name in SUMMARY.items()]
        return f"At {level} level: {', '.join(told)}."

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
        return "The network is given the feature of the sound, and neither label nor name." * bool(self.made.config)

    @property
    def indeterminate(self) -> str:
        """Cases without an answer."""
        left = " What abstention would do is reported." if self.extras.readout else ""
        return f"Every tested clip has an answer; none is indeterminate.{left}"

    @property
    def errors(self) -> str:
        """What was done about mistakes."""
        return "The most confident mistakes are listed in the report."

    @property
    def crosstab(self) -> str:
        """Counts of answers by label."""
        if len(self.run.classes) > MOST_CLASSES:
            return "The confusion matrix is in the report."
        units = self.run.main_level
        counts = units.table.assign(answer=units.predicted).value_counts(["label", "answer"], sort=False)
        told = [f"{label} as {answer}: {count}" for label, answer, count in counts.reset_index().to_numpy().tolist()]
        return f"{units.level.capitalize()}s, by label and answer: {'; '.join(told)}."

    @property
    def stored(self) -> str:
        """Where the outputs are."""
        return f"Every output is in {self._table}, to which lineage.json is bound by its hash."

    @property
    def _table(self) -> str:
        found = self.made.table
        return f"predictions.csv (SHA-256 {found[:12]}...)" if found else "the predictions.csv of each fold"

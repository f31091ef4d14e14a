"""Results as rows of text, and paired differences between runs of the same clips, by permutation tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from cry_lightning.console import as_markdown_text, clip_in_words, counted, on_one_line
from cry_lightning.evaluation.intervals import Jackknife
from cry_lightning.evaluation.metrics import Units, mean_of_defined, ratio
from cry_lightning.evaluation.predictions import classes_of
from cry_lightning.evaluation.run import Run
from cry_lightning.lineage import other_sound

TESTED = ("accuracy", "uar", "macro_f1", "macro_auc")
PERMUTATIONS = 9999
AT_A_TIME = 500  # permutations held in memory
SUMMARY = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1", "macro_auc": "AUC"}
PER_CLASS = {"recall": "recall", "precision": "precision", "f1": "F1", "roc_auc": "AUC"}
Rows = list[list[str]]  # the header first
CASE = ["clip", "repeat"]
SAME = ["label", "subject", "recording"]  # of a case, in both runs
COLUMNS = ["run", "minus", "level", "metric", "value", "low", "high", "p", "n_units", "n_subjects", "lineage"]
SIGNIFICANT = 0.05
READING = (
    "Differences over the same subjects, with 95 % intervals. p: permutation test, which exchanges both runs' answers"
    " to all clips of a subject, corrected for the number of all comparisons here; none where there is no interval. A"
    " difference of p 0.05 or less is called more than chance, whether or not its interval, which is not corrected,"
    " contains 0. Another training might give other differences."
)


@dataclass(frozen=True)
class Exchange:
    """What the differences between two runs become where subjects exchange both runs' answers to all their clips.

    Args:
        subjects: names of those that are exchanged, S; of very many, each stands for several.
        support: cases of each class in each repeat (R, K).
        hits: right answers of each class, summed over both runs and subjects, then the first run's less the other's for
            each subject (R, 1 + S, K).
        answered: the same of all answers.
        auc: what each subject adds to the difference in macro AUC (S,): exchanges would mix two scales of scores.
        widened: by how much the variance of a difference exceeds what exchanges show, see `intervals.widened`.
    """

    subjects: list[str]
    support: np.ndarray
    hits: np.ndarray
    answered: np.ndarray
    auc: np.ndarray
    widened: float = 1.0

    @classmethod
    def of(cls, units: Units, other: Units, model: Jackknife, rival: Jackknife) -> Self:
        """That of two runs with the same cases, and of their jackknives."""
        case, classes = ["repeat", "unit"], pd.Index(classes_of(units.table)).union(classes_of(other.table))
        table = units.table[[*case, "subject", "label"]].assign(ours=units.predicted)
        table = table.merge(other.table[case].assign(theirs=other.predicted), on=case, validate="1:1")
        repeat, subject = pd.factorize(table["repeat"])[0], pd.factorize(table["subject"], sort=True)[0]
        truth, ours, theirs = (classes.get_indexer(pd.Index(table[name])) for name in ("label", "ours", "theirs"))
        shape = repeat.max() + 1, len(model.names), len(classes)

        def counted(of_class: np.ndarray, where: np.ndarray | slice = slice(None)) -> np.ndarray:
            places = np.ravel_multi_index((repeat, model.group[subject], of_class), shape)
            return np.bincount(places[where], minlength=int(np.prod(shape))).reshape(shape)

        def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.concatenate([(first + second).sum(axis=1, keepdims=True), first - second], axis=1)

        return cls(
            subjects=model.names,
            support=counted(truth).sum(axis=1),
            hits=both(counted(truth, truth == ours), counted(truth, truth == theirs)),
            answered=both(counted(ours), counted(theirs)),
            auc=model.contributions(model.measures["macro_auc", ""] - rival.measures["macro_auc", ""]),
            widened=max(model.widened, rival.widened),
        )

    def differences(self, signs: np.ndarray) -> np.ndarray:
        """All of `TESTED`, the first run's less the other's, by signs (P, S), -1 for an exchange; (P, 4)."""
        first, second = (self._counted(signs * side) for side in (1.0, -1.0))
        return np.stack([*(first - second), signs @ self.auc], axis=1)

    def _counted(self, signs: np.ndarray) -> np.ndarray:
        """Accuracy, UAR and macro-F1 of one of the runs (3, P), means over repeats."""
        each = []
        for support, *counts in zip(self.support, self.hits, self.answered, strict=True):
            hits, answered = ((of[0] + signs @ of[1:]) / 2 for of in counts)
            tested = support > 0
            recall, f1 = ratio(hits, np.broadcast_to(support, hits.shape)), ratio(2 * hits, support + answered)
            of_classes = [values[:, tested].mean(axis=1) for values in (recall, f1)]
            if tested.sum() == 1:  # then there is no average, see `metrics.measure`
                of_classes = [values * np.nan for values in of_classes]
            each.append([hits.sum(axis=1) / support.sum(), *of_classes])
        return mean_of_defined(np.array(each))


def p_values(
    exchanges: Sequence[Exchange], metrics: Sequence[str] = TESTED, wanted: np.ndarray | bool = True
) -> np.ndarray:
    """Two-sided p of M metrics of each of J pairs of runs (J, M), corrected for their number; NaN where undefined.

    Those that are not `wanted` (J, M) are NaN, too, and do not count as comparisons.

    Under the null hypothesis, the answers of two runs to all clips of a subject can be exchanged. Each subject is
    exchanged in all pairs and metrics at once, so that the correction for their number, step by step from the largest,
    knows how alike they are: Holm's, which does not, misses more.
    Source: Westfall and Young 1993, "Resampling-Based Multiple Testing", alg. 2.8; Nichols and Holmes 2002, Human Brain
    Mapping 15(1).
    """
    subjects = pd.Index(dict.fromkeys(subject for each in exchanges for subject in each.subjects))
    places = [subjects.get_indexer(pd.Index(each.subjects)) for each in exchanges]
    columns = [TESTED.index(metric) for metric in metrics]

    def differences(signs: np.ndarray) -> np.ndarray:
        each = (one.differences(signs[:, at])[:, columns] for one, at in zip(exchanges, places, strict=True))
        return np.hstack([*each])

    found = np.concatenate([*map(differences, _signs(len(subjects)))])  # the first is as the runs are
    found = np.where(np.broadcast_to(wanted, (len(exchanges), len(metrics))).ravel(), found, np.nan)
    widened = np.repeat([each.widened for each in exchanges], len(metrics))
    return corrected_p(found, widened).reshape(-1, len(metrics))


def corrected_p(values: np.ndarray, widened: np.ndarray | float = 1.0) -> np.ndarray:
    """Two-sided p (J,) of J figures, which are 0 in the mean, from those found and of N exchanges (1 + N, J).

    What is found is divided by the square root of `widened` (J,), where it varies more than exchanges show. Exchanges
    that lead to exactly what is found count half: accuracy and its kind take few values, of which most would be called
    chance too often. Where nothing is found, p is 1.
    Source: Lancaster 1961, "Significance tests in discrete distributions", J. Am. Stat. Assoc. 56 (mid-p).
    """
    p = np.full(values.shape[1], np.nan)
    defined = np.flatnonzero(np.isfinite(values).all(axis=0))
    scale = np.sqrt((values[:, defined] ** 2).mean(axis=0))
    sizes = np.divide(np.abs(values[:, defined]), scale, out=np.zeros((len(values), len(defined))), where=scale > 0)
    size = sizes[0] / np.sqrt(np.broadcast_to(widened, p.shape)[defined])
    order = np.argsort(-size, kind="stable")
    largest = np.maximum.accumulate(sizes[:, order[::-1]], axis=1)[:, ::-1]  # of each figure and all below it
    above, same = largest > size[order] + 1e-9, np.abs(largest - size[order]) <= 1e-9  # but for rounding
    reached = above.mean(axis=0) + same.mean(axis=0) / 2
    p[defined[order]] = np.maximum.accumulate(np.where(size[order] > 0, reached, 1.0))
    return p


def _signs(n_subjects: int) -> Iterator[np.ndarray]:
    """All signs (n, S) of the subjects, or 9,999 drawn at random; before them those that exchange nobody; in blocks."""
    if 2**n_subjects <= PERMUTATIONS + 1:
        yield 1.0 - 2 * ((np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects)) & 1)
        return
    yield np.ones((1, n_subjects))
    rng = np.random.default_rng(0)
    for first in range(0, PERMUTATIONS, AT_A_TIME):
        yield rng.choice([-1.0, 1.0], (min(AT_A_TIME, PERMUTATIONS - first), n_subjects))


def cell(result: pd.Series) -> str:
    """`value [low, high]`, without the interval where there is none."""
    if np.isnan(result["value"]) or np.isnan(result["low"]):
        return number(result["value"])
    return f"{result['value']:.3f} [{result['low']:.3f}, {result['high']:.3f}]"


def number(value: float) -> str:
    """A value, or that there is none."""
    return "n/a" if np.isnan(value) else f"{value:.3f}"


def summary(runs: Sequence[Run]) -> Rows:
    """A row for each run and level, and below it one for the majority baseline on the same cases."""
    rows = [["run", "level", "clips/rec./subj.", *SUMMARY.values(), "lineage"]]
    for run in runs:
        for units in run.levels:
            counts = f"{units.n_clips}/{units.n_recordings}/{'?' if run.n_unknown else units.n_subjects}"
            figures = [cell(run.result(units.level, metric)) for metric in SUMMARY]
            rows.append([run.label, units.level, counts, *figures, run.leakage.status])
            baseline = [number(run.result(units.level, metric, predictor="majority")["value"]) for metric in SUMMARY]
            rows.append(["", f"always {units.majority_class}", "", *baseline, ""])
    return rows


def per_class(run: Run) -> Rows:
    """A row for each class at the run's main level, as far as they are shown."""
    level = run.main_level.level
    rows = [["class", f"{level}s", f"{run.drawn} drawn" if run.n_unknown else "subjects", *PER_CLASS.values()]]
    for name in run.shown_classes:
        counts = run.result(level, "recall", name)[["n_units", "n_subjects"]]
        rows.append([name, *map(str, counts), *(cell(run.result(level, metric, name)) for metric in PER_CLASS)])
    return rows


def two_class(run: Run, positive: str) -> Rows:
    """A row for each level, with the metrics that need a positive class."""
    negative = next(name for name in run.classes if name != positive)
    columns = {
        f"sensitivity ({positive})": ("sensitivity", positive),
        f"specificity ({negative})": ("specificity", negative),
        "ROC-AUC": ("roc_auc", positive),
        "average precision": ("average_precision", positive),
    }
    rows = [["level", *columns]]
    rows += [[units.level, *(cell(run.result(units.level, *at)) for at in columns.values())] for units in run.levels]
    return rows


def as_text(rows: Rows) -> str:
    """Columns aligned by spaces, a rule below the header."""
    rows = [[on_one_line(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_markdown(rows: Rows) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(as_markdown_text, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


@dataclass(frozen=True)
class Pair:
    """A run minus the first one."""

    run: Run
    first: Run
    unlike: str  # how their tests differ, in words; then nothing is subtracted
    differences: pd.DataFrame  # COLUMNS: a row for each level and metric; p only at the main level
    exchange: Exchange | None = None  # of subjects between both runs, at the main level

    def has_interval(self, metrics: Sequence[str]) -> list[bool]:
        """Whether there is one of each of these differences at the main level."""
        at_main = self.differences[self.differences["level"] == self.run.main_level.level].set_index("metric")
        found: list[bool] = at_main.loc[list(metrics), "low"].notna().tolist()
        return found

    def with_p(self, p: Mapping[str, float]) -> "Pair":
        """The same, with the p of some metrics."""
        at_main = self.differences["level"] == self.run.main_level.level
        found = self.differences["metric"].map(p).where(at_main).astype(float)
        return replace(self, differences=self.differences.assign(p=found))


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Each further run minus the first, at every level, with p corrected for their number."""
    first, *others = runs
    return corrected([pair(run, first) for run in others])


def pair(run: Run, first: Run) -> Pair:
    """A run minus the first, as yet without p."""
    if unlike := unlikeness(run, first):
        return Pair(run, first, unlike, pd.DataFrame(columns=COLUMNS))
    lineage = " minus ".join(dict.fromkeys([run.leakage.status, first.leakage.status]))  # once where it is the same
    rows = []
    for units in run.levels:
        counts = units.table["unit"].nunique(), units.n_subjects
        for metric in SUMMARY:
            estimate = run.jackknives[units.level].difference(first.jackknives[units.level], metric)
            rows.append((run.name, first.name, units.level, metric, *estimate, np.nan, *counts, lineage))
    table = pd.DataFrame(rows, columns=COLUMNS)
    jackknives = (each.jackknives[run.main_level.level] for each in (run, first))
    return Pair(run, first, "", table, Exchange.of(run.main_level, first.main_level, *jackknives))


def corrected(made: Sequence[Pair], metrics: Sequence[str] = TESTED) -> list[Pair]:
    """The same pairs with the p of these metrics, corrected for how many they are.

    What has no interval has no p: it would tell of the few subjects that were tested, and of no others.
    """
    tested = [(pair.exchange, pair.has_interval(metrics)) for pair in made if pair.exchange is not None]
    exchanges, wanted = [exchange for exchange, _ in tested], np.array([has for _, has in tested])
    p = iter(p_values(exchanges, metrics, wanted)) if tested else iter(())
    return [pair if pair.exchange is None else pair.with_p(dict(zip(metrics, next(p), strict=True))) for pair in made]


def unlikeness(run: Run, first: Run) -> str:
    """How the tests of two runs differ, in words; empty where every clip has its like in the other run."""
    ours, theirs = (table.set_index(CASE)[SAME] for table in (run.table, first.table))
    reasons = []
    for name, only in (
        (run.label, ours.index.difference(theirs.index)),
        (first.label, theirs.index.difference(ours.index)),
    ):
        if len(only):
            which = counted(len(only), "clip is", "clips are")
            reasons.append(f"{which} tested only by {name}, first {in_words(only)}")
    if reasons:
        reasons.append(_shared_subjects({*ours["subject"]}, {*theirs["subject"]}))
    both = ours.index.intersection(theirs.index)
    differs = ours.loc[both] != theirs.loc[both]
    for column in SAME:
        if differs[column].any():
            reasons.append(f"{differs[column].sum()} {column}s differ, first of {in_words(both[differs[column]])}")
    if not reasons and (other := other_sound(run.label, run.lineage, first.label, first.lineage)):
        reasons.append(other)
    return "; ".join(reasons)


def _shared_subjects(ours: set[str], theirs: set[str]) -> str:
    """How many subjects two tests have in common, and the remedy where some are tested by one run alone."""
    shared, tested = len(ours & theirs), len(ours | theirs)
    remedy = ": give both one split, see docs/stages.md" if shared < tested else ""
    return f"{shared} of {counted(tested, 'tested subject is', 'tested subjects are')} the same{remedy}"


def in_words(cases: pd.Index) -> str:
    """The first of some cases."""
    clip, repeat = cases.tolist()[0]
    return clip_in_words(clip) + (f" in repeat {repeat}" if repeat != "0" else "")


def section(made: Sequence[Pair], as_table: Callable[[Rows], str], as_line: Callable[[str], str]) -> list[str]:
    """The differences as blocks of text: table and how to read it, then what each pair says."""
    paired = [pair for pair in made if not pair.unlike]
    blocks = [as_table(rows(paired)), READING] if paired else []
    return [*blocks, "\n".join(f"- {as_line(verdict(pair))}" for pair in made)]


def rows(paired: Sequence[Pair]) -> Rows:
    """A row for each pair and level, and below that of the main level one of p."""
    table = [[f"minus {paired[0].first.label}", "level", "subjects", *SUMMARY.values(), "lineage"]]
    for pair in paired:
        for level, of_level in pair.differences.groupby("level", sort=False):
            figures = [cell(row) for _, row in of_level.iterrows()]
            subjects, lineage = of_level[["n_subjects", "lineage"]].iloc[0]
            table.append([pair.run.label, str(level), str(subjects), *figures, lineage])
            if of_level["p"].notna().any():
                table.append(["", "p", "", *map(p_text, of_level["p"]), ""])
    return table


def p_text(p: float) -> str:
    """A p-value as in a table; nothing where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def verdict(pair: Pair) -> str:
    """Whether UAR at the main level differs by more than chance, in one sentence."""
    if pair.unlike:
        return f"{pair.run.label}: not paired with {pair.first.label}: {pair.unlike}."
    level = pair.run.main_level.level
    found = pair.differences.query("level == @level and metric == 'uar'").iloc[0]
    p = f"p {p_text(found['p'])}" if found["p"] < 0.001 else f"p = {p_text(found['p'])}"
    leaky = [run.label for run in (pair.run, pair.first) if run.leakage.status == "LEAKY"]
    if leaky:
        weight = f"{' and '.join(leaky)} LEAKY, so this says nothing about other subjects"
    elif np.isnan(found["value"]):
        weight = "there is none, since one class only was tested"
    elif np.isnan(found["low"]):
        weight = "there is no interval, so this says nothing about other subjects"
    elif found["p"] <= SIGNIFICANT:
        weight = f"{p}, more than chance in the choice of {pair.run.drawn} explains"
    else:
        weight = f"{p}, no evidence that one does better"
    return f"{pair.run.label} minus {pair.first.label}: UAR {cell(found)} at {level} level: {weight}."

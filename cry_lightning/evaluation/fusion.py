"""Several runs as one: their rows brought together, their scores fused, and what the fused run was trained on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from cry_lightning import lineage
from cry_lightning.console import UserError
from cry_lightning.evaluation import predictions
from cry_lightning.lineage import NO_FILE, UNKNOWN, AnyLineage, Lineage, StageRecord, subject_fingerprint, union
from cry_lightning.lineage.spelling import joined

FUSION = "fusion.json"  # what a folder is the fusion of, and what was learned for it
FUSED = "fuse-"  # and the method: the stage that a fusion adds to the lineage
ROW = ["clip", "repeat", "fold", "split"]
FOLD = ["repeat", "fold"]
SAME = ["label", "subject", "recording"]  # of a row, in all members
FLOOR = 1e-6  # of a probability under a logarithm: one wrong certainty must not outweigh all else
TIE_BREAK = 1e-3  # how far the mean probabilities move tied shares of votes
TEMPERATURES = (0.05, 20.0)
PRIOR_SD = 1.0  # of the logarithm of a temperature
NOTHING = replace(UNKNOWN, gap=NO_FILE)  # is known of a table alone


@dataclass(frozen=True)
class Members:
    """M runs that predicted the same N rows of K classes."""

    names: list[str]  # as given on the command line
    folders: list[Path]
    rows: pd.DataFrame  # predictions.KEYS and SOURCE
    classes: list[str]
    scores: np.ndarray  # (M, N, K)
    lineages: list[AnyLineage | None]

    @property
    def truth(self) -> np.ndarray:
        """Index of each row's class (N,)."""
        return self.rows["label"].map(self.classes.index).to_numpy()

    @property
    def on_validation(self) -> np.ndarray:
        """Which rows are validation rows (N,)."""
        return (self.rows["split"] == "val").to_numpy()


def read_members(given: Sequence[str]) -> Members:
    """Read the runs, by folder or table, with classes and rows in the order of the first.

    Raises:
        UserError: there are fewer than two, one is named twice, or they do not hold the same rows, classes or sounds.
    """
    if len(given) < 2:
        raise UserError(f"{' '.join(given)}: a fusion needs two runs or more; `evaluate` takes a single one")
    paths = [predictions.find(run) for run in given]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError(f"a run is named twice among {', '.join(given)}; name each once")
    tables = [predictions.read(path) for path in paths]
    lineages = [lineage.of_table(path) for path in paths]
    names = [str(path.parent if path.name == "predictions.csv" else path) for path in paths]
    first, classes = tables[0], predictions.classes_of(tables[0])
    for name, table, known in zip(names[1:], tables[1:], lineages[1:], strict=True):
        if unlike := _unlikeness(name, table, names[0], first) or lineage.other_sound(
            name, known, names[0], lineages[0]
        ):
            raise UserError(f"{unlike}; fuse runs that were tested on the same split")
    in_order = [table.set_index(ROW).loc[pd.MultiIndex.from_frame(first[ROW])] for table in tables]
    scores = np.stack([table[predictions.score_columns(first)].to_numpy() for table in in_order])
    folders = [path.parent for path in paths]
    rows = first[[*predictions.KEYS, predictions.SOURCE]]
    return Members(names, folders, rows, classes, scores, lineages)


def _unlikeness(name: str, table: pd.DataFrame, first_name: str, first: pd.DataFrame) -> str:
    """The first difference between the rows or classes of two runs, in words; empty where there is none."""
    ours, theirs = (predictions.classes_of(each) for each in (table, first))
    if set(ours) != set(theirs):
        return f"{name} has the classes {', '.join(ours)}, {first_name} {', '.join(theirs)}"
    sides = ((name, table, first_name, first), (first_name, first, name, table))
    for lacking, has_not, holding, has in sides:
        folds, known = (pd.MultiIndex.from_frame(each[FOLD]) for each in (has, has_not))
        if len(missing := folds[~folds.isin(known)]):
            return f"{lacking} lacks repeat {missing[0][0]}, fold {missing[0][1]}, which {holding} has"
    for lacking, has_not, holding, has in sides:
        rows, known = (pd.MultiIndex.from_frame(each[ROW]) for each in (has, has_not))
        if len(missing := rows[~rows.isin(known)]):
            return (
                f"{lacking} lacks {len(missing)} rows that {holding} has, first {row_in_words(*map(str, missing[0]))}"
            )
    both = table.merge(first, on=ROW, suffixes=("", " of first"))
    for column in SAME:
        differs = both[both[column] != both[f"{column} of first"]]
        if len(differs):
            row = differs.iloc[0]
            difference = f"{column} {row[column]!r} in {name} and {row[f'{column} of first']!r} in {first_name}"
            return f"{row_in_words(*map(str, row[ROW]))} has {difference}"
    return ""


def row_in_words(clip: str, repeat: str, fold: str, split: str) -> str:
    """A row of the table."""
    return f"clip {clip} (repeat {repeat}, fold {fold}, {split})"


@dataclass(frozen=True)
class Fused:
    """The fused scores of one fold, and what was learned for them."""

    scores: np.ndarray  # (n, K), in the order of the fold's n rows
    chose: np.ndarray  # (N,) bool: the rows that weights or temperatures were chosen on
    fitted_to: np.ndarray  # (N,) bool: the rows that stacking was fitted to
    weights: np.ndarray | None = None  # (M,), sum 1: of the weighted mean
    temperatures: np.ndarray | None = None  # (M,), where calibrated


def fuse_fold(members: Members, here: np.ndarray, method: str, calibrate: bool) -> Fused:
    """Fuse the rows `here` (N,) of one fold by one of METHODS; `calibrate` scales each member's temperature first.

    Raises:
        UserError: the fold has no rows that the method could learn from.
    """
    scores, truth, val = members.scores, members.truth, here & members.on_validation
    chose = fitted_to = np.zeros_like(here)
    weights = temperatures = None
    if calibrate or method == "weighted":
        chose = val
        if not val.any():
            asked = "--calibrate" if calibrate else "--method weighted"
            lacking = f"{fold_in_words(members, here)} has no val rows"
            raise UserError(f"{asked}: {lacking}; train with data.split.val, or fuse by --method mean")
    if calibrate:
        whose = joined(members.rows).to_numpy(str)[val]
        temperatures = np.array([best_temperature(member[val], truth[val], whose) for member in scores])
        scores = np.stack([scaled(member, t) for member, t in zip(scores, temperatures, strict=True)])
    if method == "vote":
        fused = vote(scores[:, here])
    elif method == "stacking":
        fitted_to = stacking_rows(members, here)
        fused = stacked(scores[:, fitted_to], truth[fitted_to], scores[:, here])
    elif method == "weighted":
        weights = best_weights(scores[:, val, truth[val]])
        fused = np.tensordot(weights, scores[:, here], axes=1)
    else:
        fused = scores[:, here].mean(axis=0)
    return Fused(fused, chose, fitted_to, weights, temperatures)


def vote(scores: np.ndarray) -> np.ndarray:
    """Shares of the votes (n, K) of members' scores (M, n, K).

    Of classes with as many votes, the one of the higher mean probability gets a little more, so that the highest share
    is the decision.
    """
    mean = scores.mean(axis=0)
    shares = np.eye(scores.shape[-1])[scores.argmax(axis=-1)].mean(axis=0)
    tied = (shares == shares.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True) > 1
    fused: np.ndarray = np.where(tied, (shares + TIE_BREAK * mean) / (1 + TIE_BREAK), shares)
    return fused


def best_weights(likelihood: np.ndarray) -> np.ndarray:
    """Weights (M,), none negative, sum 1, of the mean with the least log-loss; probabilities of the truth (M, n)."""
    likelihood = np.maximum(likelihood, FLOOR)
    n_members = len(likelihood)
    found = minimize(
        lambda weights: -np.log(weights @ likelihood).mean(),
        np.full(n_members, 1 / n_members),
        jac=lambda weights: -(likelihood / (weights @ likelihood)).mean(axis=1),
        method="SLSQP",
        bounds=[(0, 1)] * n_members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )
    weights: np.ndarray = found.x.clip(0) / found.x.clip(0).sum()
    return weights


def scaled(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, K) made flatter (temperature above 1) or steeper."""
    probabilities: np.ndarray = softmax(np.log(np.maximum(scores, FLOOR)) / temperature, axis=1)
    return probabilities


def best_temperature(scores: np.ndarray, truth: np.ndarray, subjects: np.ndarray) -> float:
    """The temperature of least log-loss, of scores (n, K) of cases with class indices (n,) and subjects (n,).

    Each subject counts as one case, and the logarithm of the temperature has a normal prior around 0, without which few
    subjects make scores far too sure (`benchmarks/calibration.py`, which chose its width).
    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    _, of_case, n_cases = np.unique(subjects, return_inverse=True, return_counts=True)

    def log_loss(log_temperature: float) -> float:
        likelihood = scaled(scores, np.exp(log_temperature))[np.arange(len(truth)), truth]
        losses = -np.log(np.maximum(likelihood, FLOOR)) / n_cases[of_case]
        return float(losses.sum() + (log_temperature / PRIOR_SD) ** 2 / 2)

    return float(np.exp(minimize_scalar(log_loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def stacking_rows(members: Members, here: np.ndarray) -> np.ndarray:
    """The rows (N,) that stacking may learn from for the fold `here` (N,).

    These are the fold's own validation rows, or without them the tests of the other folds of its repeat, less the
    subjects that it tests. The members of those folds had learned from these subjects, though, and through their
    scores the stacking learns of the tested labels: the lineage has to tell.
    Source: Wolpert 1992, "Stacked generalization", Neural Networks 5(2): learn from scores on held-out cases only.

    Raises:
        UserError: there are none, or all are of one class.
    """
    rows, val = members.rows, here & members.on_validation
    met = rows["subject"].isin(rows["subject"][here])
    others = (rows["repeat"] == rows["repeat"][here].iloc[0]) & ~members.on_validation & ~met
    found: np.ndarray = val if val.any() else others.to_numpy()
    if rows["label"][found].nunique() < 2:
        raise UserError(
            f"--method stacking: {fold_in_words(members, here)} has no val rows of two classes, nor are there"
            " other folds of other subjects; train with data.split.val, or fuse by --method mean"
        )
    return found


def stacked(scores: np.ndarray, truth: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Probabilities (n, K) of cases with members' scores `others` (M, n, K).

    They come from a logistic regression on log-probabilities, fitted to scores (M, m, K) and class indices (m,); a
    class that it has not met gets 0.
    """
    from sklearn.linear_model import LogisticRegression  # takes long, and the other methods do without

    features, others_features = (np.concatenate(np.log(np.maximum(each, FLOOR)), axis=1) for each in (scores, others))
    model = LogisticRegression(max_iter=1000).fit(features, truth)
    fused = np.zeros(others.shape[1:])
    fused[:, model.classes_] = model.predict_proba(others_features)
    return fused


def fold_in_words(members: Members, here: np.ndarray) -> str:
    """The fold of some rows."""
    repeat, fold = members.rows.loc[here, ["repeat", "fold"]].iloc[0]
    return f"repeat {repeat}, fold {fold} of {members.names[0]}"


def fused_lineage(members: Members, here: np.ndarray, fused: Fused, stage: str) -> Lineage:
    """The lineage of one fused fold, whose rows are `here` (N,).

    What stacking was fitted to is training data. Where that is other folds' tests, the models of those folds, which
    scored them, are ancestors too.
    """
    rows = members.rows
    folds = rows.loc[fused.fitted_to | here, FOLD].drop_duplicates().itertuples(index=False)
    named = [(name, one or NOTHING) for name, one in zip(members.names, members.lineages, strict=True)]
    each = [(name, one.of_fold(repeat, fold)) for repeat, fold in folds for name, one in named]
    lineage = union(one for _, one in each)
    gaps = dict.fromkeys(f"{name}: {one.unknown}" for name, one in each if one.unknown)
    content = lineage.test_clips
    stages = lineage.stages
    if fused.fitted_to.any() or fused.chose.any():
        own = StageRecord(
            stage=stage,
            corpus=stages[-1].corpus if stages else "unknown",
            subjects=subjects(rows[fused.fitted_to]),
            clips=sounds(rows[fused.fitted_to], content),
            validation_subjects=subjects(rows[fused.chose]),
            validation_clips=sounds(rows[fused.chose], content),
            subject_sources=sources(rows[fused.fitted_to | fused.chose]),
        )
        stages = [*stages, own]
    calibrates = fused.fitted_to.any() or fused.temperatures is not None  # either makes probabilities of mere scores
    return replace(
        lineage,
        stages=stages,
        gap="; ".join(gaps),
        uncalibrated=lineage.uncalibrated and not calibrates,
        test_clips={clip: content[clip] for clip in rows["clip"][here] if clip in content},
    )


def subjects(rows: pd.DataFrame) -> list[str]:
    """Fingerprints of the subjects of some rows, sorted."""
    whose = rows[["subject", predictions.SOURCE]].drop_duplicates("subject").itertuples(index=False)
    return sorted(subject_fingerprint(subject, source) for subject, source in whose)


def sources(rows: pd.DataFrame) -> dict[str, int]:
    """How the subjects of some rows are known, and how many are so."""
    return dict(Counter(rows.drop_duplicates("subject")[predictions.SOURCE]))


def sounds(rows: pd.DataFrame, content: dict[str, str]) -> list[str]:
    """Fingerprints of the clips of some rows, sorted; `content` is that of each clip, where it is known."""
    return sorted({content[clip] for clip in rows["clip"] if clip in content})

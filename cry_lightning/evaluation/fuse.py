"""`python -m cry_lightning fuse`: several runs in, one run folder out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cry_lightning import lineage
from cry_lightning.commands.arguments import check_folder
from cry_lightning.console import UserError, first_few
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.clinical import too_few
from cry_lightning.evaluation.compare import as_text
from cry_lightning.evaluation.fusion import (
    FOLD,
    FUSED,
    FUSION,
    Fused,
    Members,
    fold_in_words,
    fuse_fold,
    fused_lineage,
    read_members,
)
from cry_lightning.evaluation.predictions import SCORE
from cry_lightning.files import Json, read_object_if_any, write_json
from cry_lightning.lineage import AnyLineage, FoldedLineage
from cry_lightning.lineage.spelling import joined

VALIDATION, OTHER_FOLDS = "validation rows", "tests of the other folds"
ACROSS = """\
Without validation rows, the stacking of a fold learned from the tests of the other folds, less the subjects that it
tests itself. The models of those folds had learned from these subjects, though: train with data.split.val."""


def fuse(given: Sequence[str], out: Path, method: str = "mean", calibrate: bool = False) -> str:
    """Write the fused runs as a run folder like any other; returns what was learned, and whether it leaks, in words.

    Args:
        given: run folders or predictions tables.
        out: the folder.
        method: one of METHODS.
        calibrate: scale each member's temperature on its validation rows first.

    Raises:
        UserError: the runs cannot be fused so, or the folder is not free.
    """
    check_folder("--out", out)
    members = read_members(given)
    recipe = {"method": method, "calibrate": calibrate, "members": members.names}
    _refuse_taken(out, recipe, members)

    scores, lineages, learned, remarks = np.empty(members.scores.shape[1:]), {}, list[Json](), list[str]()
    for repeat, fold in members.rows[FOLD].drop_duplicates().itertuples(index=False):
        here = (members.rows[FOLD] == (repeat, fold)).all(axis=1).to_numpy()
        fused = fuse_fold(members, here, method, calibrate)
        scores[here] = fused.scores
        of = {"repeat": repeat, "fold": fold}
        subjects = joined(members.rows)[fused.chose].groupby(members.rows["label"]).nunique()
        few = too_few(dict(subjects.reindex(members.classes, fill_value=0)))
        if fused.chose.any() and few:
            remarks.append(f"{fold_in_words(members, here)}: what was chosen is hardly better than none; {few}")
        lineages[repeat, fold] = fused_lineage(members, here, fused, FUSED + method)
        learned.append(of | _learned(fused, here))
    table = members.rows.assign(**dict(zip([SCORE + name for name in members.classes], scores.T, strict=True)))
    known = FoldedLineage(lineages) if len(lineages) > 1 else lineages[repeat, fold]

    write_json(recipe | {"learned": learned}, out / FUSION)
    predictions.write(table, out / "predictions.csv")
    lineage.write(known, out / lineage.FILE)
    return "\n".join([*_in_words(members, method, learned), *remarks, *_verdicts(members, known, out)])


def _refuse_taken(out: Path, recipe: Json, members: Members) -> None:
    """Only an empty folder, or an older fusion of the same runs in the same way, is written to."""
    if out.resolve() in [folder.resolve() for folder in members.folders]:
        raise UserError(f"--out {out} is the folder of a member; name a new one")
    held = sorted(path.name for path in out.glob("*") if path.suffix != ".part")
    if held and FUSION not in held:
        raise UserError(f"--out {out} holds something else ({first_few(held, 3)}); name a new folder")
    older = read_object_if_any(out / FUSION)
    if held and {key: older.get(key) for key in recipe} != recipe:
        raise UserError(f"--out {out} holds another fusion, see its {FUSION}; name a new folder, or remove that one")


def _learned(fused: Fused, here: np.ndarray) -> Json:
    """What was learned for a fold, whose rows are `here` (N,)."""
    learned: Json = {}
    for key, values in (("weight", fused.weights), ("temperature", fused.temperatures)):
        if values is not None:
            learned[key] = values.tolist()
    if fused.fitted_to.any():
        learned["stacking"] = VALIDATION if (fused.fitted_to & here).any() else OTHER_FOLDS
    return learned


def _in_words(members: Members, method: str, learned: list[Json]) -> Iterator[str]:
    tests = int((~members.on_validation).sum())
    yield f"{method} of {len(members.names)} runs; tested clips: {tests}; folds: {len(learned)}"
    figures = {key: np.array([fold[key] for fold in learned]) for key in ("weight", "temperature") if key in learned[0]}
    if figures:
        named = " and ".join(f"{key}s" for key in figures)
        over = "; mean and range over folds" if len(learned) > 1 else ""
        yield f"{named} chosen by log-loss on the fold's validation rows{over}:"
        rows = [["run", *figures]]
        for number, name in enumerate(members.names):
            rows.append([name, *(_mean_and_range(values[:, number]) for values in figures.values())])
        yield as_text(rows)
    if any(fold.get("stacking") == OTHER_FOLDS for fold in learned):
        yield ACROSS
    elif method == "stacking":
        yield "each fold's logistic regression was fitted to its own validation rows"


def _mean_and_range(values: np.ndarray) -> str:
    mean = f"{values.mean():.3f}"
    return f"{mean} ({values.min():.3f} to {values.max():.3f})" if len(values) > 1 else mean


def _verdicts(members: Members, known: AnyLineage, out: Path) -> Iterator[str]:
    """What each member that is not clean had met of the tested rows, or may have, and then what the fused run had."""
    rows = members.rows if members.on_validation.all() else members.rows[~members.on_validation]
    for name, own in zip([*members.names, out / "predictions.csv"], [*members.lineages, known], strict=True):
        found = lineage.check(rows, own)
        if found.status != "CLEAN" or own is known:
            yield ", ".join(filter(None, [f"{name}: {found.status}", found.reason]))

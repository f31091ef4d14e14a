"""`python -m cry_lightning cross-validate`: folds trained where they are not yet, then one pooled table and report."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from cry_lightning.console import progress_bar
from cry_lightning.cross_validation.chain import Chain, open_chain, share_cores, train_once, train_round
from cry_lightning.cross_validation.plan import Round, divided, plan, trained_again
from cry_lightning.cross_validation.report import write_pooled
from cry_lightning.studies import is_begun, mark

MADE_OF = "cross_validation.json"  # what is cross-validated in a folder


def cross_validate(
    stages: Sequence[Sequence[str]],
    *,
    folds: int | None,
    repeats: int,
    group: str | None,
    loso: bool,
    seeds: Sequence[int] | None,
    jobs: int,
    keep: bool,
    out: Path | None,
    upstream: Path | None,
) -> Path:
    """Train and test all rounds that are not finished, and pool the tests in a run folder, which is returned.

    The stages are given by the arguments of `fit`, the others are those of the command.

    Raises:
        UserError: there are too few groups, or the folder holds another cross-validation.
    """
    chain = open_chain(stages)
    data = chain.last.data
    if seeds:
        kind, rounds = f"{len(seeds)}-seeds", trained_again(data.split, seeds)
        scheme = {"seeds": list(seeds)}
    else:
        planned = plan(data, group or "subject", folds or 5, repeats, loso)
        divisions = "leave-one-out" if planned.leave_one_out else planned.folds
        kind = f"{divisions}x{planned.repeats}-{planned.group}"
        rounds = planned.rounds(data.split.val, data.split.seed, int(chain.last.config["seed_everything"]))
        scheme = vars(planned)
    for this in rounds:
        divided(data, this.split)  # what cannot be is told before hours are spent
    name = f"{chain.last.config['name']}-{kind}"  # each kind of cross-validation has a folder of its own
    out = out or Path(chain.last.config["runs"]) / chain.last.corpus / name
    wanted = {"stages": {str(place): study.config for place, study in enumerate(chain.stages)}, "scheme": scheme}
    if not is_begun(out / MADE_OF, wanted):
        mark(out / MADE_OF, wanted)
    weights = train_once(chain, upstream or out / "stages")
    write_pooled(train_rounds(chain, rounds, weights, out, keep, jobs), out)
    return out


def train_rounds(
    chain: Chain, rounds: list[Round], weights: str | None, out: Path, keep: bool, jobs: int
) -> list[Path]:
    """Train the rounds that are not finished, some at a time; returns their run folders in the same order."""
    train = partial(train_round, chain, weights=weights, out=out, keep=keep)
    bar = partial(progress_bar, total=len(rounds), desc="cross-validate", unit="fold")
    if jobs == 1:
        return list(bar(map(train, rounds)))
    with ProcessPoolExecutor(jobs, get_context("spawn"), share_cores, (jobs,)) as pool:
        return list(bar(pool.map(train, rounds)))

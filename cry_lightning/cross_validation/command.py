"""`python -m cry_lightning cross-validate`: folds trained where they are not yet, then one pooled table and report."""

from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from cry_lightning.commands.cross_validate import arguments
from cry_lightning.cross_validation.chain import Chain, open_chain, share_cores, train_once, train_round
from cry_lightning.cross_validation.plan import Round, divided, plan, trained_again
from cry_lightning.cross_validation.report import folds_as_text, write_pooled
from cry_lightning.evaluation import report
from cry_lightning.progress import progress_bar
from cry_lightning.studies import is_begun, mark

MADE_OF = "cross_validation.json"  # what is cross-validated in a folder


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the last stage's YAML, as in `fit`.

    Raises:
        UserError: an option makes no sense, there are too few groups, or the folder holds another cross-validation.
    """
    options = arguments(argv)
    stages = [["--config", config] for config in options.config]
    stages[-1] += options.overrides
    out = cross_validate(stages, options)
    print(folds_as_text(out), end="\n\n")
    report.main([str(out), "--allow-leaky", *(["--positive", options.positive] if options.positive else [])])


def cross_validate(stages: Sequence[Sequence[str]], options: Namespace) -> Path:
    """Train and test all rounds that are not finished, and pool the tests in a run folder, which is returned.

    Args:
        stages: each by the arguments of `fit`.
        options: those of the command.

    Raises:
        UserError: as of the command.
    """
    chain = open_chain(stages)
    data = chain.last.data
    if options.seeds:
        kind, rounds = f"{len(options.seeds)}-seeds", trained_again(data.split, options.seeds)
        scheme = {"seeds": options.seeds}
    else:
        planned = plan(data, options.group or "subject", options.folds or 5, options.repeats, options.loso)
        folds = "leave-one-out" if planned.leave_one_out else planned.folds
        kind, rounds = (
            f"{folds}x{planned.repeats}-{planned.group}",
            planned.rounds(data.split.val, data.split.seed, int(chain.last.config["seed_everything"])),
        )
        scheme = vars(planned)
    for this in rounds:
        divided(data, this.split)  # what cannot be is told before hours are spent
    name = f"{chain.last.config['name']}-{kind}"  # each kind of cross-validation has a folder of its own
    out = options.out or Path(chain.last.config["runs"]) / chain.last.corpus / name
    wanted = {"stages": {str(place): study.config for place, study in enumerate(chain.stages)}, "scheme": scheme}
    if not is_begun(out / MADE_OF, wanted):
        mark(out / MADE_OF, wanted)
    weights = train_once(chain, options.upstream or out / "stages")
    write_pooled(train_rounds(chain, rounds, weights, out, options.keep, options.jobs), out)
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

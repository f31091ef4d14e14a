"""`python -m cry_lightning cross-validate`: folds trained where they are not yet, then one pooled table and report."""

from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.cross_validation.chain import Chain, open_chain, share_cores, train_once, train_round
from cry_lightning.cross_validation.plan import Round, divided, plan, trained_again
from cry_lightning.cross_validation.report import folds_as_text, write_pooled
from cry_lightning.errors import UserError
from cry_lightning.evaluation import report
from cry_lightning.progress import progress_bar
from cry_lightning.studies import is_begun, mark

MADE_OF = "cross_validation.json"  # what is cross-validated in a folder


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the last stage's YAML, as in `fit`.

    Raises:
        UserError: an option makes no sense, there are too few groups, or the folder holds another cross-validation.
    """
    options, overrides = parser().parse_known_args(argv)
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {options.jobs}")
    if options.loso and options.folds is not None:
        raise UserError("--folds and --loso contradict each other: leave-one-out has a fold for each group")
    if options.seeds and (options.loso or options.folds is not None or options.repeats != 1 or options.group):
        raise UserError("--seeds train the YAML's own division again: leave out --folds, --repeats, --group and --loso")
    if options.out:
        check_folder("--out", options.out)
    stages = [["--config", config] for config in options.config]
    stages[-1] += overrides
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
        kind, rounds = f"{folds}x{planned.repeats}-{planned.group}", planned.rounds(data.split.val, data.split.seed)
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


def parser() -> ArgumentParser:
    """The command's options."""
    made = ArgumentParser(
        prog="python -m cry_lightning cross-validate",
        description="Train and test a stage on every fold, subjects never divided, and pool the tests. Of a chain, "
        "stages on other corpora are trained once; stages on the tested corpus are trained in each fold, without its "
        "test subjects.",
        epilog="Further arguments override the last YAML as in fit, e.g. --data configs/data/donateacry.yaml. Folds "
        "that are finished are not run again, so a killed cross-validation goes on with the same command.",
    )
    made.add_argument("--config", required=True, nargs="+", metavar="STAGE.yaml", help="the stages, in their order")
    made.add_argument("--folds", type=int, metavar="K", help="folds, stratified by class (default: 5)")
    made.add_argument("--repeats", type=int, default=1, metavar="R", help="other divisions (default: %(default)s)")
    group = "what is never divided: subject (default), a column of the manifest, or clip (stamped LEAKY)"
    made.add_argument("--group", help=group)
    made.add_argument("--loso", action="store_true", help="leave one group out at a time instead")
    seeds = "instead of folds, train on the YAML's own division from each of these seeds"
    made.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help=seeds)
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="folds at a time (default: %(default)s)")
    made.add_argument("--keep", action="store_true", help="keep each fold's checkpoints")
    made.add_argument("--positive", metavar="CLASS", help="as of evaluate")
    made.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/CORPUS/STAGE-FOLDSxREPEATS-GROUP")
    upstream = "where the stages on other corpora lie, to be shared by several cross-validations (default: DIR/stages)"
    made.add_argument("--upstream", type=Path, metavar="DIR", help=upstream)
    return made

"""`python -m cry_lightning cross-validate`: folds trained where they are not yet, then one pooled table and report."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.cross_validation.chain import Chain, open_chain, share_cores, train_fold, train_once
from cry_lightning.cross_validation.plan import Scheme, check_classes, plan
from cry_lightning.cross_validation.report import write_pooled
from cry_lightning.data.splits import Split
from cry_lightning.errors import UserError
from cry_lightning.evaluation import report
from cry_lightning.studies import begin, is_begun

MADE_OF = "cross_validation.json"  # what is cross-validated in a folder


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the last stage's YAML, as in `fit`.

    Raises:
        UserError: an option makes no sense, there are too few groups, or the folder holds another cross-validation.
    """
    options, overrides = _parser().parse_known_args(argv)
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {options.jobs}")
    if options.loso and options.folds is not None:
        raise UserError("--folds and --loso contradict each other: leave-one-out has a fold for each group")
    if options.out:
        check_folder("--out", options.out)
    chain = open_chain(options.config, overrides)
    scheme = plan(chain.last.data, options.group, options.folds or 5, options.repeats, options.loso)
    splits = scheme.splits(chain.last.data.split.val)
    for split in splits:
        check_classes(chain.last.data, split)
    out = options.out or default_folder(chain, scheme)
    wanted = {"stages": chain.config, "scheme": vars(scheme)}
    if not is_begun(out / MADE_OF, wanted):
        begin(out / MADE_OF, wanted)
    weights = train_once(chain, out)
    folders = train_folds(chain, splits, weights, out, options.keep, options.jobs)
    print(write_pooled(folders, out), end="\n\n")
    report.main([str(out), "--allow-leaky", *(["--positive", options.positive] if options.positive else [])])


def default_folder(chain: Chain, scheme: Scheme) -> Path:
    """RUNS/CORPUS/STAGE-5x2-subject, so that each kind of cross-validation has a folder of its own."""
    kind = "leave-one-out" if scheme.leave_one_out else str(scheme.folds)
    name = f"{chain.last.config['name']}-{kind}x{scheme.repeats}-{scheme.group}"
    return Path(chain.last.config["runs"]) / chain.last.corpus / name


def train_folds(chain: Chain, splits: list[Split], weights: str | None, out: Path, keep: bool, jobs: int) -> list[Path]:
    """Train the folds that are not finished, some at a time; returns their run folders in the order of the splits."""
    train = partial(train_fold, chain, weights=weights, out=out, keep=keep)
    bar = partial(tqdm, total=len(splits), desc="cross-validate", unit="fold")
    if jobs == 1:
        return list(bar(map(train, splits)))
    with ProcessPoolExecutor(jobs, get_context("spawn"), share_cores, (jobs,)) as pool:
        return list(bar(pool.map(train, splits)))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m cry_lightning cross-validate",
        description="Train and test a stage on every fold, subjects never divided, and pool the tests. Of a chain, "
        "stages on other corpora are trained once; stages on the tested corpus are trained in each fold, without its "
        "test subjects.",
        epilog="Further arguments override the last YAML as in fit, e.g. --data configs/data/donateacry.yaml. Folds "
        "that are finished are not run again, so a killed cross-validation goes on with the same command.",
    )
    parser.add_argument("--config", required=True, nargs="+", metavar="STAGE.yaml", help="the stages, in their order")
    parser.add_argument("--folds", type=int, metavar="K", help="folds, stratified by class (default: 5)")
    parser.add_argument("--repeats", type=int, default=1, metavar="R", help="other divisions (default: %(default)s)")
    group = "what is never divided: subject (default), a column of the manifest, or clip (stamped LEAKY)"
    parser.add_argument("--group", default="subject", help=group)
    parser.add_argument("--loso", action="store_true", help="leave one group out at a time instead")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="folds at a time (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep each fold's checkpoints")
    parser.add_argument("--positive", metavar="CLASS", help="as of evaluate")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUNS/CORPUS/STAGE-FOLDSxREPEATS-GROUP")
    return parser

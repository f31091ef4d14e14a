"""The chain of stages that `make` calls: each in a run folder of its own, none done twice, none replaced unasked.

A run folder is named by what the user chose (data, method, arguments); where a YAML, the recordings or the stage before
has changed since, the old run is kept and the new one is numbered. `made_from.json` in it tells what it was made from.
"""

import gc
import json
import runpy
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from contextvars import copy_context
from io import StringIO
from pathlib import Path
from typing import TypedDict

import cry_lightning
from cry_lightning.commands.arguments import ArgumentParser, parse
from cry_lightning.commands.stage import arguments as check_arguments
from cry_lightning.console import UserError, check_working_folder, first_few, print_any_name, stopped_by_signals
from cry_lightning.download.published import WEIGHTS
from cry_lightning.files import LOCK, MADE_FROM, MOVING, OLDER, Json, locked, write_json, write_text
from cry_lightning.make.chain import METHODS, PUBLISHED, RUNS, MakeChain, MakeStage, imported, note_down
from cry_lightning.make.digests import Inputs, changed, of_file
from cry_lightning.make.rendering import rendered_meanwhile

GOALS = ("pretrain", "simclr", "adapt", "finetune", "evaluate")
PUBLISHED_SHA256 = WEIGHTS["efficientat-mn04"].digest or ""
OURS = ("config.yaml", "fit", "test", ".lock", ".DS_Store")  # what a fit that failed in its set-up leaves


Fitted = TypedDict("Fitted", {"inputs": Inputs, "best.ckpt": str | None})  # the digest of what came of them, if any


class Record(TypedDict, total=False):
    """What a run folder was made from; what was tested and evaluated there, as digests of its files."""

    fit: Fitted
    test: dict[str, str]
    evaluate: Json


def main(argv: list[str] | None = None) -> int:
    """Bring goals about, one after the other; a user's mistake is one line on stderr and exit code 2."""
    print_any_name()
    try:
        check_working_folder()
        options = _parser().parse_args(argv)
        if options.method not in METHODS:
            raise UserError(f"METHOD={options.method}: it is simclr, supervised, adapt or audioset")
        arguments = _words("ARGS", options.arguments)
        chain = MakeChain(
            options.method, options.data, arguments, options.overwrite, Path(options.weights).expanduser()
        )
        of_evaluate = _words("EVALUATE_ARGS", options.evaluate)
        if chain.data and {*options.goals} != {"evaluate"}:
            note_down(chain.data, RUNS / chain.corpus)
        if "evaluate" in options.goals:
            parse(cry_lightning.evaluate, [str(RUNS), *of_evaluate])
        told: set[Path] = set()
        for number, goal in enumerate(options.goals, 1):
            if goal == "evaluate":
                evaluate(chain, of_evaluate)
            elif options.method == "audioset":
                fit_published(chain, goal, told)
            else:
                waiting = [getattr(chain, later) for later in options.goals[number:] if later != "evaluate"]
                fit(getattr(chain, goal), chain.overwrite, told, waiting)
    except UserError as error:
        sys.stderr.write(f"cry_lightning: error: {error}\n")
        return 2
    except Stopped as stop:
        return stop.code
    return 0


class Stopped(Exception):  # noqa: N818
    """A command of the chain has failed, and printed why."""

    def __init__(self, code: int) -> None:
        self.code = code


def fit_published(chain: MakeChain, goal: str, told: set[Path]) -> None:
    """Import the weights of the method audioset where that is not done, and fine-tune from them where that is the goal.

    Raises:
        UserError: the goal is another, the file is not there, or what is imported is of another file.
    """
    if goal not in ("pretrain", "finetune"):
        raise UserError(f"METHOD=audioset: begins with published weights, so there is no {goal}; leave it out")
    file, checkpoint = chain.published, imported(chain.published)
    source, is_published = checkpoint.with_name("source.sha256"), file.name == PUBLISHED
    if not file.is_file() and not checkpoint.exists():
        fetched = f"run `python -m cry_lightning weights get efficientat-mn04 --to {checkpoint}`, or " * is_published
        raise UserError(
            f"METHOD=audioset: {file}: no such file of weights; {fetched}get {PUBLISHED} (MIT, sha256"
            f" {PUBLISHED_SHA256}) from the releases of github.com/fschmid56/EfficientAT, and say where your copy is by"
            " WEIGHTS=path"
        )
    if file.is_file() and is_published and of_file(file) != PUBLISHED_SHA256[: len(of_file(file))]:
        raise UserError(f"{file}: damaged, or another file: sha256 is not {PUBLISHED_SHA256}; get it again")
    if not checkpoint.exists():
        tensors = run("import-weights", "efficientat", str(file), "--to", str(checkpoint), capture=True)
        _say(tensors.rstrip().rpartition("\n")[2])  # where each went is printed by the command itself
        source.write_text(of_file(file), encoding="utf-8")
    elif file.is_file() and source.is_file() and source.read_text(encoding="utf-8") != of_file(file):
        raise UserError(f"{checkpoint}: imported from another file than {file}; remove {checkpoint.parent} first")
    else:
        _say_up_to_date(checkpoint, told)
    told.add(checkpoint)
    if goal == "finetune":
        fit(chain.finetune, chain.overwrite, told)


def fit(stage: MakeStage, overwrite: bool, told: set[Path], waiting: Sequence[MakeStage] = ()) -> Path:
    """The run folder of a stage, which is fitted where no run of just this is finished; so are those before it.

    Args:
        stage: to be fitted.
        overwrite: a run of something else is replaced.
        told: run folders of which all is said already; this one is added.
        waiting: stages that come later, whose configs and arguments are looked at before the first fit.
    """
    weights = fit(stage.before, overwrite, told, (stage, *waiting)) / "best.ckpt" if stage.before else None
    wanted = stage.inputs(weights)
    folder, differs = find(stage, wanted)
    if is_finished(folder):
        _say_up_to_date(folder, told)
        return folder
    if record := read_record(folder):
        stage = stage.as_recorded(record["fit"]["inputs"])
        wanted = record["fit"]["inputs"]
    arguments = [f"--model.init_args.weights={weights}"] if weights else []
    fresh = not (folder / MADE_FROM).exists()
    if fresh and differs and overwrite:
        folder = next(stage.folders())
        arguments.append("--overwrite=true")
    elif fresh and differs:
        _say(f"{differs}; it is kept, and {folder.name} is fitted beside it (OVERWRITE=1 replaces it)")
    elif (folder / "last.ckpt").exists():
        arguments.append(f"--ckpt_path={folder / 'last.ckpt'}")
    for later in waiting:
        check_arguments(["fit", "--config", str(later.config), f"--name={later.name}", *later.arguments])
    begun: Record = {"fit": {"inputs": wanted, "best.ckpt": None}}
    overwrites = "--overwrite=true" in arguments  # then the fit writes it, once the older run is put aside with its own
    if not overwrites:
        write_record(folder, begun)
    command = ("fit", "--config", str(stage.config), f"--name={folder.name}", *arguments, *stage.arguments)
    try:
        with rendered_meanwhile((stage, *waiting)):
            run(*command, record=begun if overwrites else None)
    finally:
        forget(folder)
    if not is_finished(folder):
        raise UserError(f"{folder}: the fit has left no run there; see the name and the runs of {stage.config}")
    write_record(folder, {"fit": {"inputs": wanted, "best.ckpt": of_file(folder / "best.ckpt")}})
    told.add(folder)
    return folder


def forget(folder: Path) -> None:
    """Leave nothing of a fit that ended before its first checkpoint, unless another process is at work there."""
    if not folder.is_dir() or any((folder / name).exists() for name in ("best.ckpt", "last.ckpt")):
        return
    with suppress(UserError), locked(folder):
        (folder / MADE_FROM).unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
    with suppress(OSError):  # something else is there
        folder.rmdir()


def find(stage: MakeStage, wanted: Inputs, unknown: Sequence[str] = ()) -> tuple[Path, str]:
    """The folder of a run that was made from just this, or else the first that is free; and how the first one differs.

    Args:
        stage: whose run.
        wanted: its inputs.
        unknown: those that do not count.
    """
    differs = ""
    for folder in stage.folders():
        bring_back(folder)
        record = read_record(folder)
        if record:
            made_from = record["fit"]["inputs"]
            respelt = stage.as_recorded(made_from)
            here = wanted if respelt is stage else respelt.inputs(None) | {"weights": wanted["weights"]}
            found = [name for name in changed(made_from, here) if name not in unknown]
            best = record["fit"]["best.ckpt"]
            if not found and best and (not is_finished(folder) or of_file(folder / "best.ckpt") != best):
                found = ["best.ckpt, fitted otherwise since"]
            if not found:
                return folder, differs
            differs = differs or f"{folder} differs in {first_few(found, 3)}"
        elif is_free(folder):
            return folder, differs
        else:
            differs = differs or f"{folder} {why_not_known(folder)}"
    raise AssertionError("folders have no end")


def bring_back(folder: Path) -> None:
    """Have the run in its place again that a fit was to replace which was killed before its first checkpoint."""
    if will_come_back(folder) or (folder / MOVING).is_dir():
        from cry_lightning.cli.runfolder import RunFolder  # brings torch

        with suppress(UserError), RunFolder(folder).held():  # unless that fit is still at work
            pass


def will_come_back(folder: Path) -> bool:
    """Whether another fit was to take the place of the run of this folder, and has no checkpoint yet."""
    return (folder / OLDER).is_dir() and not any((folder / name).exists() for name in ("best.ckpt", "last.ckpt"))


def why_not_known(folder: Path) -> str:
    """Why a folder that is in use is not taken up, in words."""
    if (folder / MADE_FROM).exists():
        return f"cannot be taken up, as its {MADE_FROM} is damaged"
    if (folder / "config.yaml").exists():
        return f"was not made by make but by `fit`, which writes no {MADE_FROM} of what it was made from"
    return "was not made by make"


def is_free(folder: Path) -> bool:
    """Whether there is nothing in a folder that a fit would take away."""
    return not folder.exists() or (folder.is_dir() and all(path.name in OURS for path in folder.iterdir()))


def is_finished(folder: Path) -> bool:
    """Whether a fit has reached its end there."""
    return (folder / "fit/finished").exists() and (folder / "best.ckpt").exists()


def evaluate(chain: MakeChain, arguments: tuple[str, ...]) -> None:
    """Test and evaluate the run that was fitted under these choices, where that is not done, and print its table.

    Raises:
        UserError: there is no such run: nothing is fitted here.
    """
    folder = finished_run(chain.finetune)
    record: Record = read_record(folder) or {}
    best = of_file(folder / "best.ckpt")
    tested = {"best.ckpt": best, "predictions.csv": _of(folder / "predictions.csv")}
    if record.get("test") != tested or not tested["predictions.csv"]:
        config = str(folder / "config.yaml")
        run("test", "--config", config, *chain.finetune.trust, capture=True)  # its table is the first of `evaluate`
        tested["predictions.csv"] = _of(folder / "predictions.csv")
        record["test"] = tested
        write_record(folder, record)
    evaluated: Json = {"arguments": list(arguments), **tested}
    if record.get("evaluate") != evaluated | {"report.md": _of(folder / "report.md")}:
        table = run("evaluate", str(folder), *arguments, capture=True)
        write_text(table, folder / "report.txt")
        record["evaluate"] = evaluated | {"report.md": _of(folder / "report.md")}
        write_record(folder, record)
    _say((folder / "report.txt").read_text(encoding="utf-8").rstrip("\n"))
    further = [f"`python -m cry_lightning predict RECORDINGS --ckpt {folder / 'best.ckpt'} --out scores.csv`"]
    if "--clinical" not in arguments:
        further.insert(0, f"`python -m cry_lightning evaluate {folder} --clinical` (two classes)")
    _say(f"Model card: {folder / 'card.md'}. Next: {', '.join(further)}")


def finished_run(stage: MakeStage) -> Path:
    """The folder of a finished run of a stage.

    Raises:
        UserError: there is none; it says which there are.
    """
    before, unknown = weights_of(stage)
    folder, differs = find(stage, stage.inputs(before), unknown)
    if is_finished(folder):
        return folder
    if read_record(folder):
        raise UserError(f"{folder}: its fit was interrupted; `make finetune evaluate` goes on with it")
    others = sorted(str(path.parent.parent) for path in RUNS.glob("*/finetune*/fit/finished"))
    there = f"; finished are {first_few(others, 6)}" if others else ""
    why = f" ({differs})" if differs else ""
    raise UserError(f"{folder}: no such run{why}; `make finetune evaluate` with the same variables fits it{there}")


def weights_of(stage: MakeStage) -> tuple[Path | None, tuple[str, ...]]:
    """The checkpoint that a stage begins with, as it is; and which inputs are not known, where it is gone."""
    if stage.before is None:
        return None, ()
    weights, unknown = weights_of(stage.before)
    folder, _ = find(stage.before, stage.before.inputs(weights), unknown)
    return (folder / "best.ckpt", ()) if is_finished(folder) else (None, ("weights",))


def run(*command: str, capture: bool = False, record: Record | None = None) -> str:
    """Run one command of cry_lightning in this process, and return what it prints where that is captured.

    Args:
        command: its words.
        capture: what it prints.
        record: of a fit that takes the place of an older run.

    Raises:
        Stopped: it failed, or a scheduler's signal came where it could not go on.
    """
    from cry_lightning.cli.process import restored  # brings torch, which goals that are up to date do without
    from cry_lightning.cli.runfolder import made_from

    _say(shlex.join(["python", "-m", "cry_lightning", *command]))
    printed, argv, code = StringIO(), sys.argv, None
    context = copy_context()
    context.run(made_from.set, json.dumps(record, indent=1) if record else "")
    try:
        sys.argv = ["cry_lightning", *command]
        with stopped_by_signals(), restored(), redirect_stdout(printed) if capture else nullcontext():
            # As `python -m` does, since Lightning starts that again for each process of several. In a context of its
            # own, since the parser keeps itself in a variable of the context, and with it the Trainer.
            context.run(runpy.run_module, "cry_lightning", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = argv
        sys.stdout.flush()
        gc.collect()  # a Trainer and its network hold each other
    if code:
        sys.stdout.write(printed.getvalue())
        raise Stopped(int(code))
    return printed.getvalue()


def read_record(folder: Path) -> Record | None:
    """What a run folder's record tells; None where there is none, or it is damaged."""
    if will_come_back(folder):
        folder = folder / OLDER
    try:
        record = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
        return record if {"inputs", "best.ckpt"} <= record["fit"].keys() and record["fit"]["inputs"].keys() else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Say in a run folder what it was made from."""
    write_json(record, folder / MADE_FROM)


def _of(path: Path) -> str:
    return of_file(path) if path.is_file() else ""


def _words(variable: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"{variable}={text}: {str(error).lower()}") from error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say_up_to_date(made: Path, told: set[Path]) -> None:
    """Say once that nothing is to be done for what was made before."""
    if made not in told:
        _say(f"{made}: up to date")
    told.add(made)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m cry_lightning.make.command", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("goals", nargs="+", choices=GOALS, metavar="goal", help=", ".join(GOALS))
    parser.add_argument("--method", default="simclr", help="simclr, supervised, adapt or audioset")
    parser.add_argument("--data", default="", help="recordings, manifest.csv or data YAML; default: synthetic cries")
    weights = "published weights of EfficientAT, for the method audioset (%(default)s)"
    parser.add_argument("--weights", default=PUBLISHED, help=weights)
    parser.add_argument("--arguments", default="", help="further arguments of fit in the fine-tuning, as one text")
    parser.add_argument("--evaluate", default="", help="further arguments of evaluate, as one text")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that was made from something else")
    return parser


if __name__ == "__main__":
    sys.exit(main())

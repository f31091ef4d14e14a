"""Commands of many trainings, as functions."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cry_lightning.api.evaluation import evaluate
from cry_lightning.commands.arguments import Folder, Overrides, Stage, Taken, command, command_line, find_shipped
from cry_lightning.console import UserError

if TYPE_CHECKING:
    import pandas as pd

    from cry_lightning.studies.engine import StageConfig


Folds = Annotated[int, Taken("N", counted="folds")]
MODELS = ("resnet18", "resnet50", "efficientnet_b0", "mobilenetv3_small_100", "vit_tiny_patch16_224")


def read_size(text: str) -> tuple[int, int]:
    """The size of a picture, from FxT."""
    if not (found := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text}: say height x width in pixels, such as 60x90")
    return int(found[1]), int(found[2])


def _stage(config: str, overrides: Overrides) -> "StageConfig":
    """The config of a stage with further arguments, which are checked before torch is imported."""
    from cry_lightning.commands.stage import check_overrides

    given = list(overrides)
    check_overrides(config, given)
    from cry_lightning.studies.engine import StageConfig

    return StageConfig(config).changed(given)


@command
def cross_validate(
    config: Annotated[Sequence[str], Taken("STAGE.yaml", option=True)],
    *,
    folds: Annotated[int | None, Taken("K")] = None,
    repeats: Annotated[int, Taken("R")] = 1,
    group: str | None = None,
    loso: bool = False,
    seeds: Annotated[Sequence[int] | None, Taken("SEED")] = None,
    jobs: Folds = 1,
    launcher: Annotated[str | None, Taken("submitit")] = None,
    keep: bool = False,
    positive: Annotated[str | None, Taken("CLASS")] = None,
    out: Folder | None = None,
    upstream: Annotated[Path | None, Taken("DIR")] = None,
    overrides: Overrides = (),
) -> Path:
    """A stage or a chain on every fold, pooled.

    Subjects are never divided. Of a chain, stages on other corpora are trained once; stages on the tested corpus are
    trained in each fold, without its test subjects. Further arguments override the last YAML as in fit, e.g.
    --data configs/data/donateacry.yaml. Folds that are finished are not run again, so a killed cross-validation goes on
    with the same command.

    Args:
        config: the stages, in their order.
        folds: folds, stratified by class (default: 5).
        repeats: other divisions, each trained from its own seed.
        group: what is never divided: subject (default), a column of the manifest, or clip (stamped LEAKY).
        loso: leave one group out at a time instead.
        seeds: train each division from each of these seeds, so that the report distinguishes both; without folds,
            repeats or group, the division is the YAML's own.
        jobs: folds at a time.
        launcher: submitit trains each fold in a SLURM job of its own, with submitit's parameters behind a colon:
            submitit:timeout_min=240,slurm_partition=gpu,gpus_per_node=1.
        keep: keep each fold's checkpoints; `test` one of them for the decisions of `predict`.
        positive: as of evaluate.
        out: the run folder of the pooled tests; default: RUNS/CORPUS/STAGE-FOLDSxREPEATS-GROUP.
        upstream: where the stages on other corpora lie, to be shared by several cross-validations (default:
            DIR/stages).
        overrides: of the last YAML.

    Returns: the run folder.

    Raises:
        UserError: an argument makes no sense, there are too few groups, or the folder holds another cross-validation.

    Example: python -m cry_lightning cross-validate --config configs/simclr.yaml configs/finetune.yaml --folds 5
    """
    from cry_lightning.commands.stage import check_overrides
    from cry_lightning.studies.division import CrossValidationPlan

    if launcher and jobs != 1:
        raise UserError("--launcher: submits all folds, so it does not go with --jobs")
    division, given = CrossValidationPlan(folds, repeats, group, loso, seeds), list(overrides)
    for number, one in enumerate(config, 1):
        check_overrides(one, given if number == len(config) else [])
    from cry_lightning.studies.cross_validation import folds_as_text, planned
    from cry_lightning.studies.engine import StageConfig
    from cry_lightning.studies.launcher import executor_of

    *before, last = map(StageConfig, config)
    plan = planned([*before, last.changed(given)], division, out, upstream)
    if launcher:
        executor_of(launcher, plan.out / "jobs")  # before anything is trained
    where = plan.run(jobs, keep, launcher)
    print(folds_as_text(where), end="\n\n")
    evaluate([str(where)], allow_leaky=True, positive=positive)
    return where


@command
def leakage(
    config: Stage,
    *,
    folds: Annotated[int, Taken("K", counted="folds")] = 5,
    repeats: Annotated[int, Taken("R")] = 1,
    copies: Annotated[int, Taken("N")] = 2,
    jobs: Folds = 1,
    out: Folder | None = None,
    overrides: Overrides = (),
) -> "pd.DataFrame":
    """How much of a score is knowledge of who cries, and how much of the recorder.

    The stage is cross-validated by subject, by recording, by clip, and by clip with augmented copies on both sides;
    beside it what the labels of the same subject, and what the recorder alone, would reach. Writes report.html,
    leakage.md, leakage.csv and leakage.png. Further arguments override the YAML as in fit. Folds that are finished are
    not run again.

    Args:
        config: the stage.
        folds: of each division.
        repeats: other divisions.
        copies: of each clip, with another level and noise, in the last division; 0 leaves that out.
        jobs: folds at a time.
        out: where to write; default: RUNS/CORPUS/leakage-STAGE.
        overrides: of the YAML.

    Returns: what leakage.csv holds.

    Raises:
        UserError: an argument makes no sense, or the stage cannot be cross-validated so.

    Example: python -m cry_lightning leakage --config configs/few_labels.yaml --data configs/data/donateacry.yaml
    """
    line = command_line(leakage, locals())
    if copies < 0:
        raise UserError(f"--copies {copies}: there cannot be less than none; 0 leaves out the augmented division")
    from cry_lightning.studies.division import CrossValidationPlan

    division, stage = CrossValidationPlan(folds, repeats), _stage(config, overrides)
    from cry_lightning.studies.leakage import run

    return run(stage, division, copies, jobs, out, line)


@command
def label_efficiency(
    config: Stage,
    *,
    fractions: Annotated[Sequence[float] | None, Taken("SHARE")] = None,
    per_class: Annotated[Sequence[int] | None, Taken("N")] = None,
    seeds: Sequence[int] = (0, 1, 2),
    encoders: Annotated[Sequence[str], Taken("ENCODER")] = ("scratch",),
    arguments: Annotated[Sequence[str], Taken("'NAME ARGUMENTS'", repeated=True)] = (),
    folds: Annotated[Sequence[int] | None, Taken("FOLD")] = None,
    jobs: Annotated[int, Taken("N", counted="points")] = 1,
    out: Folder | None = None,
    allow_leaky: bool = False,
    overrides: Overrides = (),
) -> "pd.DataFrame":
    """Scores against number of labels, for several encoders.

    Each encoder is trained on growing, nested subsets of the labels and tested on the same subjects: curves of UAR and
    AUC with intervals, and the labels that each saves over training from scratch. Further arguments override the YAML
    as in fit, e.g. --data configs/data/digits.yaml. Points that are finished are not run again, so a killed study goes
    on with the same command.

    Args:
        config: the stage that every point trains.
        fractions: shares of each class's subjects.
        per_class: clips of each class.
        seeds: of subset and training.
        encoders: scratch or NAME=CHECKPOINT; {fold} in a path stands for the fold.
        arguments: an encoder's own arguments, as one text, e.g. 'simclr --model.init_args.frozen=true' for a linear
            probe.
        folds: folds to pool; default: the config's one.
        jobs: points at a time.
        out: default: RUNS/CORPUS/label-efficiency.
        allow_leaky: report encoders that were trained on test subjects, stamped.
        overrides: of the YAML.

    Returns: what label_efficiency.csv holds.

    Raises:
        UserError: an argument makes no sense, a subset cannot be drawn, or an encoder was trained on the test subjects.

    Example: python -m cry_lightning label-efficiency --config configs/finetune.yaml --per-class 2 5 10
    """
    line = command_line(label_efficiency, locals())
    if fractions and per_class:
        raise UserError("argument --per-class: not allowed with argument --fractions")
    if not (amounts := per_class or fractions):
        missing = "one of the arguments --fractions --per-class is required"
        raise UserError(f"{missing}; see python -m cry_lightning label-efficiency --help")
    stage = _stage(config, overrides)
    from cry_lightning.studies.label_efficiency import points, run

    planned = points(
        encoders, "per_class" if per_class else "label_fraction", amounts, seeds, folds or [None], arguments
    )
    return run(stage, planned, out, allow_leaky, jobs, line)


@command
def tune(
    config: Stage,
    *,
    space: Annotated[str, Taken("SPACE.yaml", instead="give a YAML such as configs/spaces/finetune.yaml")],
    trials: Annotated[int, Taken("N", counted="trials")],
    seed: int = 0,
    jobs: Annotated[int, Taken("N", counted="trials")] = 1,
    out: Folder | None = None,
    overrides: Overrides = (),
) -> Path:
    """Search for good settings of a stage on its validation subjects.

    Fits the stage with one setting after another, each chosen in the light of those before (Optuna), and writes the one
    that does best on the validation subjects as a stage config. Test subjects are not used. Further arguments override
    the YAML as in fit, e.g. --data configs/data/donateacry.yaml. Finished trials are not run again: a killed search
    goes on with the same command, a longer one with more --trials.

    Args:
        config: the stage that every trial fits.
        space: dotted keys of the stage, each with {low, high}, log or step by choice, or with {choices}.
        trials: how many, finished ones included.
        seed: of the search; that of a fit is seed_everything (default: 0).
        jobs: trials at a time, of the first ten: each later one is chosen in the light of all before.
        out: default: RUNS/CORPUS/tune-NAME.
        overrides: of the YAML.

    Returns: the YAML of the best setting.

    Raises:
        UserError: an argument or the space makes no sense, the folder holds another search, or every trial failed.

    Example: python -m cry_lightning tune --config configs/finetune.yaml --space configs/spaces/finetune.yaml --trials 9
    """
    stage = _stage(config, overrides)
    from cry_lightning.studies.tune import run

    return run(stage, space, trials, seed, out, jobs)


def read_paper(text: str) -> Path:
    """A recipe by its path, or a publication by the name of its folder."""
    named, path = (Path(find_shipped([one])[0]) for one in (f"configs/papers/{text}", text))
    return named if named.exists() and not path.exists() else path


@command
def paper(
    recipe: Annotated[Path, Taken(instead="give a folder of configs/papers, or its paper.yaml", read=read_paper)],
    *,
    corpus: Annotated[str | None, Taken("NAME")] = None,
    seeds: Annotated[Sequence[int] | None, Taken("SEED")] = None,
    jobs: Folds = 1,
    out: Folder | None = None,
    overrides: Overrides = (),
) -> "pd.DataFrame":
    """A published system, or another study, run whole by its recipe.

    The systems of a publication are run under its own protocol and under one that keeps subjects apart, and tabled
    beside its figures. All inputs of all stages are checked before the first is trained. Further arguments override
    every last stage as in fit, e.g. --trainer.max_epochs=3; with a stage's name before the key that stage, e.g.
    --pretrain.trainer.max_epochs=3, or all stages with --every. What is finished is not run again, so a stopped table
    goes on with the same command.

    Args:
        recipe: a folder of configs/papers, its name or its paper.yaml; or a recipe such as configs/studies/age.yaml.
        corpus: what to run on (default: the publication's own).
        seeds: where one division is trained from several seeds: these, in place of the paper.yaml's.
        jobs: folds at a time, of whichever systems.
        out: default: runs/PAPER/CORPUS, PAPER the folder's name.
        overrides: of every last stage, or of the stage that is named before the key.

    Returns: what table.csv holds.

    Raises:
        UserError: there is no such paper or corpus, or what `cross_validate` refuses.

    Example: python -m cry_lightning paper configs/papers/le2020
    """
    line = command_line(paper, locals())
    from cry_lightning.studies.papers import run

    return run(recipe, corpus, list(overrides), seeds, jobs, out, line)


@command
def architectures(
    config: Stage,
    *,
    models: Annotated[Sequence[str], Taken("NAME")] = MODELS,
    sizes: Sequence[Annotated[tuple[int, int], Taken("FxT", read=read_size)]] = ((32, 48), (64, 96), (128, 192)),
    folds: Annotated[int | None, Taken("K")] = None,
    repeats: Annotated[int, Taken("R")] = 1,
    group: str | None = None,
    loso: bool = False,
    seeds: Annotated[Sequence[int] | None, Taken("SEED")] = None,
    jobs: Folds = 1,
    keep: bool = False,
    out: Folder = Path("runs/architectures"),
    overrides: Overrides = (),
) -> "pd.DataFrame":
    """Networks of timm by picture size, cross-validated alike.

    A stage on pictures is cross-validated with each of several networks and sizes: one table, and a report with all
    metrics and differences. What is finished is not run again. Further arguments override the YAML as in fit, e.g.
    --data configs/papers/le2020/data/donateacry.yaml.

    Args:
        config: a stage whose encoder is a TimmNetwork, e.g. configs/papers/le2020/resnet50.yaml.
        models: names of timm.
        sizes: height x width.
        folds: as of cross-validate, like what follows.
        repeats: other divisions.
        group: what is never divided.
        loso: leave one group out at a time.
        seeds: train on the YAML's own division from each of these.
        jobs: folds at a time.
        keep: keep each fold's checkpoints; `test` one of them for the decisions of `predict`.
        out: a folder for each cross-validation and the report.
        overrides: of the YAML.

    Returns: UAR for each network (rows) and size (columns), with its interval.

    Raises:
        UserError: timm has no such network, it takes no pictures of such a size, or the stage none; as
            `cross_validate`.

    Example: python -m cry_lightning architectures --config configs/papers/le2020/resnet50.yaml --folds 3
    """
    from cry_lightning.studies.division import CrossValidationPlan

    division, stage = CrossValidationPlan(folds, repeats, group, loso, seeds), _stage(config, overrides)
    from cry_lightning.studies.architectures import run

    return run(stage, models, sizes, division, out, jobs, keep)

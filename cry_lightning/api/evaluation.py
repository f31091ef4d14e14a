"""Commands that score trained models, as functions."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from cry_lightning.commands.arguments import (
    Checkpoint,
    Device,
    Folder,
    Taken,
    Trusted,
    command,
    command_line,
    refuse_existing,
)
from cry_lightning.console import UserError

if TYPE_CHECKING:
    import pandas as pd


RUN = "name the folder of a run that was tested, or a predictions.csv"
Run = Annotated[str, Taken("RUN", instead=RUN, what="run")]
Numbers = Sequence[float]
PREVALENCES = (0.01, 0.05, 0.2)
Kind = Literal["noise", "white", "bands", "ends", "gain", "channel"]
KINDS = get_args(Kind)


@command
def evaluate(
    runs: Sequence[Run] = (),
    *,
    pool: Sequence[Sequence[Annotated[str, Taken("FOLD", instead=RUN, what="run")]]] = (),
    out: Folder | None = None,
    allow_leaky: bool = False,
    split: Literal["test", "val"] = "test",
    positive: Annotated[str | None, Taken("CLASS")] = None,
    clinical: bool = False,
    prevalences: Annotated[Numbers, Taken("SHARE")] = PREVALENCES,
    by: Annotated[Path | None, Taken("TABLE")] = None,
    style: Literal["screen", "paper"] = "screen",
    with_audio: bool = False,
    checklist: Literal["tripod-ai", "stard-ai"] | None = None,
    send_report: bool = False,
) -> "pd.DataFrame":
    """Metrics with intervals over subjects, figures and a report.

    Predictions are scored at clip, recording and subject level; writes report.html, report.md, metrics.csv, card.md
    (of one tested run) and figures/. Of several runs tested on the same clips, each is also compared with the first:
    paired differences, also in differences.csv. Where a test was logged to W&B, its metrics are added there.

    Args:
        runs: run folder that `test` has filled, or a predictions.csv.
        pool: folds of one run: score all their tests as one; several times for several runs.
        out: where to write; default: the run's folder; of several, runs/comparison, or where that is of other runs a
            folder beside it.
        allow_leaky: report runs tested on their training subjects, stamped LEAKY.
        split: which rows; val goes to validation/.
        positive: with two classes, that of sensitivity; unless named, the rarer one in all of predictions.csv, val and
            test.
        clinical: with two classes, also calibration, operating points, net benefit and abstention; what they need is
            chosen on the validation rows.
        prevalences: of the positive class, for the predictive values of --clinical.
        by: CSV with a column recording, path or subject, such as a manifest: metrics for each value of its other
            columns, such as sex or site; many numbers make ranges.
        style: of the figures in figures/; paper: one column wide, text of 8 pt.
        with_audio: embed the clips of the most confident mistakes in report.html, where their recordings are found.
        checklist: reporting guideline whose items are filled in as far as the run tells, in checklist.md and
            report.html; of one run.
        send_report: add report.html to the runs of W&B, too; it names recordings, and holds the sound of --with-audio.

    Returns: what metrics.csv holds.

    Raises:
        UserError: a run cannot be read, or was tested on what it was trained on.

    Example: python -m cry_lightning evaluate runs/donateacry/finetune runs/donateacry/scratch
    """
    line = command_line(evaluate, locals())
    named = [*runs, *chain(*pool)]
    if not named:
        raise UserError("the following arguments are required: RUN; see python -m cry_lightning evaluate --help")
    if len({Path(run).resolve() for run in named}) < len(named):
        raise UserError(f"a run is named twice among {', '.join(named)}; name each once")
    if tuple(prevalences) != PREVALENCES and not clinical:
        raise UserError("--prevalences: are for the predictive values of --clinical; give that too")
    from cry_lightning.report.command import run
    from cry_lightning.report.words import Asked

    asked = Asked(style, with_audio, checklist or "", line, send_report)
    return run(runs, pool, out, allow_leaky, split, positive, clinical, prevalences, by, asked)


@command
def evaluate_events(
    reference: Annotated[Path, Taken("REFERENCE", instead="give a folder of intervals")],
    predicted: Annotated[Path, Taken("PREDICTED", instead="give a folder of intervals")],
    *,
    label: str = "cry",
    tier: str | None = None,
    subjects: Annotated[Path | None, Taken("CORPUS", instead="give a manifest.csv or a folder of recordings")] = None,
    out: Annotated[Path | None, Taken("CSV")] = None,
) -> "pd.DataFrame":
    """Events that were found in recordings against those marked by hand.

    Files of intervals (Praat TextGrids, Audacity labels, Raven selection tables) are compared by the names of their
    recordings: precision, recall and F1 of frames of 10 ms, of events (one to one, intersection over union at least
    0.5) and of their beginnings (within 0.2 s), each with a 95 % interval over subjects. Recordings that are in
    PREDICTED alone do not count.

    Args:
        reference: folder of files, at any depth.
        predicted: such a folder, as `acquire --annotations` makes one; with a file for each recording of REFERENCE.
        label: of the intervals that count.
        tier: of TextGrids with several; in PREDICTED, a single one may be called otherwise.
        subjects: manifest.csv or folder of the recordings; default: Donate-a-Cry names, or each recording its own.
        out: write the table there, too.

    Returns: a row for each level and metric.

    Raises:
        UserError: a file is at fault, or missing, or a recording has no subject.

    Example: python -m cry_lightning evaluate-events segments cries/annotations
    """
    if out is not None:
        refuse_existing(out)
    from cry_lightning.acquire.evaluate_events import run

    return run(reference, predicted, label, tier, subjects, out)


@command
def verify(
    embeddings: Sequence[Annotated[Path, Taken("EMBEDDINGS", instead="give files that `embed` wrote")]],
    *,
    session: Annotated[str, Taken("COLUMN")] = "recording",
    out: Annotated[Path | None, Taken("CSV")] = None,
) -> "pd.DataFrame":
    """How much of who cries embeddings hold: equal error rates over pairs of recordings.

    Clips are averaged by subject and session; the cosine of two sessions is to tell whether they are of one subject.
    What an encoder knows of its subjects is also what a division by clip would reward. Sessions are recordings, by
    their files; where a file is a part of a recording, name the column that joins them, or room and microphone count as
    the infant: recording_code of CryCeleb and Baby Chillanto.

    Args:
        embeddings: files that `embed` wrote, a row of the table each.
        session: column whose values are compared with one another, never with themselves, such as recording, or period
            of CryCeleb (at birth, at discharge).
        out: write the table there, too.

    Returns: a row for each file and metric.

    Raises:
        UserError: a file is at fault, or no subject has two sessions.

    Example: python -m cry_lightning verify embeddings.h5
    """
    if out is not None:
        refuse_existing(out)
    from cry_lightning.evaluation.verification import run

    return run(embeddings, session, out)


@command
def fuse(
    runs: Sequence[Run],
    *,
    out: Folder,
    method: Literal["mean", "weighted", "vote", "stacking"] = "mean",
    calibrate: bool = False,
) -> Path:
    """Predictions of several runs as one: mean, weighted, vote, stacking.

    The runs predicted the same clips in the same folds, networks and SVMs alike; `evaluate` takes the fused run as any
    other. Its lineage is that of all its members.

    Args:
        runs: run folder that `test` has filled, or a predictions.csv.
        out: a new folder, for the fused run.
        method: mean of the probabilities (default); weighted: that with weights of least log-loss; vote: majority, ties
            by the mean; stacking: logistic regression. What is learned is learned on each fold's validation rows
            (stacking without them: on the other folds' tests).
        calibrate: first scale the temperature of each member on its validation rows.

    Raises:
        UserError: the runs cannot be fused so, or the folder is not free.

    Example: python -m cry_lightning fuse runs/chillanto/resnet50 runs/chillanto/svm --out runs/chillanto/ensemble
    """
    from cry_lightning.evaluation import fuse

    print(fuse.fuse(runs, out, method, calibrate))
    return out


@command
def robustness(
    ckpt: Sequence[Checkpoint],
    *,
    out: Folder,
    trust: Trusted = (),
    noise: Annotated[str | None, Taken("DIR", instead="name a folder of recordings")] = None,
    kinds: Sequence[Kind] | None = None,
    snr_db: Annotated[Numbers, Taken("DB")] = (20.0, 10.0, 5.0, 0.0, -5.0),
    bands_hz: Annotated[Numbers | None, Taken("HZ")] = None,
    blank: Annotated[Numbers, Taken("SHARE")] = (0.1, 0.2, 0.3, 0.4, 0.5),
    gain_db: Annotated[Numbers, Taken("DB")] = (-30.0, -20.0, -10.0, 10.0, 20.0),
    low_pass_hz: Annotated[Numbers | None, Taken("HZ")] = None,
    seed: int = 0,
    device: Device = "auto",
    allow_leaky: bool = False,
) -> "pd.DataFrame":
    """Trained models under noise, lost bands, lost time, gain and channels.

    Classifiers are scored on their own test clips while the sound that reaches the front end is disturbed: UAR over
    severity with intervals over subjects, paired differences to the undisturbed score and to the first model. Models
    must have been tested on the same clips. Writes KIND.csv, KIND.png and predictions/MODEL/KIND_SEVERITY-HASH.csv into
    --out. Points that are finished are not run again, so a killed study goes on with the same command.

    Args:
        ckpt: RUN/best.ckpt of runs that were tested.
        out: folder to write to.
        trust: let the files name classes of this package, too (may be repeated).
        noise: recordings for the kind `noise` (WAV, FLAC, OGG, MP3).
        kinds: default: all; noise where --noise is given.
        snr_db: of noise and white.
        bands_hz: edges of the bands; default: octaves.
        blank: of the clip, at either end.
        gain_db: in place of the recording's own.
        low_pass_hz: channels beside the two of 8 bits.
        seed: of the noise.
        device: where to compute.
        allow_leaky: report models that were trained on test subjects, stamped.

    Returns: a row for each model, kind and severity.

    Raises:
        UserError: an argument makes no sense, a model cannot be used, or it was trained on its test subjects.

    Example: python -m cry_lightning robustness --ckpt runs/synthetic-cries/finetune/best.ckpt --out runs/robustness
    """
    line = command_line(robustness, locals())
    asked: Sequence[str] = kinds or [kind for kind in KINDS if kind != "noise" or noise]
    from cry_lightning.studies.disturbances import Severities
    from cry_lightning.studies.robustness import run

    severities = Severities(asked, noise, snr_db, bands_hz, blank, gain_db, low_pass_hz, seed)
    return run(ckpt, out, trust, severities, device, allow_leaky, line)


@command
def dashboard(
    *,
    project: str = "cry_lightning",
    entity: str | None = None,
    out: Annotated[Path | None, Taken("JSON")] = None,
) -> list[str]:
    """A workspace and a report in W&B, of what runs and studies log there.

    Sections: pipeline, pretraining health, fine-tuning, folds, label efficiency, leakage, robustness, data. Without a
    key for W&B, or where it cannot be reached, or with --out, they are written down as JSON, as W&B's server takes
    them. Needs the package wandb-workspaces.

    Args:
        project: that the runs are in, as in their YAML.
        entity: your user or team in W&B; default: as W&B knows you.
        out: write them down there, and send nothing; without a key: dashboard.json.

    Returns: their addresses, or the file.

    Raises:
        UserError: wandb-workspaces is not installed.

    Example: python -m cry_lightning dashboard --out dashboard.json
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed; pip install wandb-workspaces")
    from cry_lightning.dashboard.views import run

    return run(project, entity, out)

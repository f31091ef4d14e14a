"""`python -m cry_lightning predict`: what a trained classifier says of recordings, window by window."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from torch import Tensor

from cry_lightning.arguments import by_recording
from cry_lightning.console import UserError, as_cell, for_spreadsheets, printable
from cry_lightning.evaluation.compare import as_text
from cry_lightning.evaluation.predictions import SCORE, classes_of, score_columns
from cry_lightning.files import replacing
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.windows import ModelOutputs, Recordings, duration_s, report_left_out, run_model
from cry_lightning.tasks import Classifier
from cry_lightning.trust.names import Trust

log = logging.getLogger(__name__)
MAX_SHOWN = 20  # recordings in the terminal; the file has them all


def run(
    paths: Sequence[str],
    ckpt: Path,
    trust: Sequence[str],
    out: Path,
    device: str,
    batch_size: int,
    hop_s: float | None,
) -> pd.DataFrame:
    """Run the command; recordings that cannot be used are listed with the reason. Returns the table of windows."""
    of_recordings, trained = by_recording(out), TrainedStage(ckpt, device, Trust(tuple(trust)))
    recordings, outputs = hear_recordings(trained, paths, scores_of(trained), batch_size, hop_s)
    windows = window_table(recordings, outputs, trained.classes or [])
    table = recording_table(recordings, outputs, windows)
    with replacing(out) as windows_part, replacing(of_recordings) as recordings_part:  # both, or neither
        write(windows, windows_part)
        write(table, recordings_part)
    print(f"{printable(shown(table, shutil.get_terminal_size().columns))}\n{out}\n{of_recordings}")
    return windows


def hear_recordings(
    trained: TrainedStage,
    paths: Sequence[str],
    network: Callable[[Tensor], Tensor],
    batch_size: int,
    hop_s: float | None = None,
) -> tuple[Recordings, ModelOutputs]:
    """The values that `network`, a part of `trained.stage`, gives for windows of recordings, cut as in the training.

    Raises:
        UserError: no recording could be used.
    """
    recordings = Recordings(paths, **trained.cutting | ({} if hop_s is None else {"hop_s": hop_s}))
    with TemporaryDirectory() as folder:  # for the levels of windows, which are of no use later
        clips = recordings.clips(Path(folder))
    if not clips:
        raise UserError(f"no recording is anywhere above {recordings.min_active_db} dB, as the model's windows were")
    outputs = run_model(trained, recordings, clips, network, batch_size)
    report_left_out(outputs)
    return recordings, outputs


def scores_of(trained: TrainedStage) -> Callable[[Tensor], Tensor]:
    """The network from features to probabilities (B, K).

    Raises:
        UserError: the stage is no classifier.
    """
    stage = trained.stage
    if not isinstance(stage, Classifier):
        raise UserError(
            f"{trained.path}: has no head for classes, it is a {type(stage).__name__}; fine-tune it first:"
            f" fit --config configs/finetune.yaml --model.init_args.weights={trained.path}"
        )
    if not stage.calibrated:
        log.warning("%s: its loss is no likelihood, so the scores rank but are no probabilities", trained.path)
    return lambda features: stage.scores(stage(features))


def window_table(recordings: Recordings, outputs: ModelOutputs, classes: Sequence[str]) -> pd.DataFrame:
    """One row per window: path, start_s, duration_s, score_<class>..., predicted."""
    table = pd.DataFrame(
        {
            "path": [clip.path for clip in outputs.clips],
            "start_s": [clip.start_s for clip in outputs.clips],
            "duration_s": [duration_s(recordings, clip) for clip in outputs.clips],
        }
    )
    scores = outputs.values.astype(float)
    table[[SCORE + name for name in classes]] = scores / scores.sum(1, keepdims=True)
    return with_predicted(table)


def recording_table(recordings: Recordings, outputs: ModelOutputs, windows: pd.DataFrame) -> pd.DataFrame:
    """One row per recording: path, number of windows, mean of their scores, predicted, and what is wrong with it."""
    of_recording = windows.groupby("path")
    table = with_predicted(of_recording[score_columns(windows)].mean())
    table.insert(0, "windows", of_recording.size())
    table = table.reindex(pd.Index(recordings.paths, name="path")).reset_index()
    table["windows"] = table["windows"].fillna(0).astype(int)
    too_quiet = f"nowhere above {recordings.min_active_db} dB, as the model's windows were"
    rows = zip(table["path"], table["windows"], strict=True)
    table["fault"] = [outputs.bad.get(path, ["" if n_windows else too_quiet])[0] for path, n_windows in rows]
    return table


def with_predicted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a last column, the class of the highest score."""
    best = table[score_columns(table)].to_numpy().argmax(1)
    return table.assign(predicted=[classes_of(table)[index] for index in best])


def shown(table: pd.DataFrame, width: int) -> str:
    """The first recordings, a line each: the end of the path, the class and its score, or what is at fault.

    Args:
        table: as from `recording_table`.
        width: of the terminal, in characters; a path takes half of it at most, a fault is written whole.
    """
    room = width // 2
    rows = [["path", "windows", "predicted", "score", "fault"]]
    for _, row in table.head(MAX_SHOWN).iterrows():
        path = row["path"] if len(row["path"]) <= room else f"...{row['path'][3 - room :]}"
        answer = [row["predicted"], f"{row[score_columns(table)].max():.3f}"] if row["windows"] else ["", ""]
        rows.append([path, str(row["windows"]), *answer, row["fault"]])
    lines = [line.rstrip() for line in as_text(rows).splitlines()]
    more = [f"... and {len(table) - MAX_SHOWN} more"] if len(table) > MAX_SHOWN else []
    return "\n".join([*lines, *more])


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV file; float32 scores survive exactly.

    A path that a spreadsheet would run is written as one below the current folder, which it is.
    """
    paths = [text if as_cell(text) == text else f"./{text}" for text in table["path"]]
    safe = for_spreadsheets(table.assign(path=paths))
    safe.to_csv(path, index=False, float_format="%.9g", errors="surrogateescape")

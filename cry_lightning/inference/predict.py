"""`python -m cry_lightning predict`: what a trained classifier says of recordings, by window or by unit."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cry_lightning import audio
from cry_lightning.commands.arguments import refuse_existing
from cry_lightning.console import UserError, counted, printable
from cry_lightning.evaluation.compare import as_text
from cry_lightning.evaluation.predictions import SCORE, score_columns
from cry_lightning.inference import output
from cry_lightning.inference.decisions import Decisions, add_decisions
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.novelty import Layers
from cry_lightning.inference.reference import Reference
from cry_lightning.inference.windows import (
    UNIT,
    Find,
    Finder,
    ModelOutputs,
    Recordings,
    by_thresholds,
    duration_s,
    left_out,
    run_through,
)
from cry_lightning.tasks import Classifier
from cry_lightning.trust.names import Trust

MAX_SHOWN = 20  # recordings in the terminal; the file has them all


@dataclass(frozen=True)
class Predicted:
    """What was predicted for recordings.

    Args:
        rows: of each window or unit: path, start_s, duration_s, score_<class>..., predicted, calibrated_<class>...,
            novelty, decision, abstained. `attrs` are those of `left_out`.
        recordings: the same of each recording, with windows (or units) and fault in place of the times.
    """

    rows: pd.DataFrame
    recordings: pd.DataFrame


def run(
    paths: Sequence[str],
    ckpt: Path,
    trust: Sequence[str],
    out: Path | None,
    device: str,
    batch_size: int,
    hop_s: float | None,
    detect: bool,
    detector: Path | None,
) -> pd.DataFrame:
    """Run the command; recordings that cannot be used are listed with the reason. Returns the table of rows.

    Nothing is written, nor shown, where `out` is None.
    """
    trained = TrainedStage(ckpt, device, Trust(tuple(trust)))
    scores_of(trained)
    find = Finder(detector, trust).spans if detector else by_thresholds if detect else None
    recordings = recordings_at(trained, paths, hop_s, find)
    if out is None:
        return predicted(trained, recordings, batch_size).rows
    of_recordings, files = output.by_recording(out), output.files_of(out, recordings.paths)
    refuse_existing(of_recordings, *dict.fromkeys(files.values()))
    found = predicted(trained, recordings, batch_size)
    output.write(found.rows, found.recordings, files, out)
    written = {file for file in files.values() if file.exists()}
    count = counted(len(written), "file")
    where = out if set(files.values()) == {out} else f"{output.folder_of(out)} ({count})"
    notes = [*decided_otherwise(found.recordings), *(trained.reference.doubts if trained.reference else [])]
    table = shown(found.recordings, shutil.get_terminal_size().columns)
    print(printable("\n".join([table, *notes, str(where), str(of_recordings)])))
    return found.rows


def recordings_at(
    trained: TrainedStage,
    paths: Sequence[str],
    hop_s: float | None = None,
    find: Find | None = None,
    folder: Path | None = None,
) -> Recordings:
    """Recordings (in a folder), cut as in the training, or the units in them that `find` finds, however loud."""
    cutting = trained.cutting | ({} if hop_s is None else {"hop_s": hop_s})
    if find is not None:
        cutting["min_active_db"] = None
    return Recordings(paths, find, trained.of_windows, folder, **cutting)


def predicted(trained: TrainedStage, recordings: Recordings, batch_size: int, quiet: bool = False) -> Predicted:
    """What a classifier says of recordings; memory holds one row of numbers for each window.

    Args:
        trained: the classifier.
        recordings: how they are cut.
        batch_size: clips at once.
        quiet: show no progress, and log nothing that the result has.

    Raises:
        UserError: the stage is no classifier, or no recording could be used.
    """
    classes = trained.classes or []
    known = trained.reference
    parts = [window_table(recordings, NOTHING, classes)]
    bad: dict[str, list[str]] = {}
    with network_of(trained, known) as network:
        for outputs in run_through(trained, recordings, network, batch_size, quiet):
            parts.append(window_table(recordings, outputs, classes))
            for path, reasons in outputs.bad.items():
                bad.setdefault(path, []).extend(reasons)
    bad |= {path: [reason] for path, reason in recordings.faults.items()}
    rows = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    attrs = left_out(recordings, bad, set(rows["path"]), quiet)
    rows = rows.drop(columns=UNIT) if recordings.find is None else unit_table(rows, recordings)
    means = recording_table(recordings, {path: reasons[0] for path, reasons in bad.items()} | attrs["empty"], rows)
    of_rows, of_means = (known.levels[level] if known else None for level in ("clip", "recording"))
    rows, means = finished(rows, of_rows, classes), finished(means, of_means, classes)
    rows.attrs.update(attrs)
    return Predicted(rows, means)


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
        audio.warn_once(f"{trained.path}: its loss is no likelihood, so the scores rank but are no probabilities")
    return lambda features: stage.scores(stage(features))


@contextmanager
def network_of(trained: TrainedStage, known: Reference | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """The network from features to probabilities and novelty (B, K + 1); novelty is 0 where no reference is known."""
    scores = scores_of(trained)
    if known is None:
        yield lambda features: torch.nn.functional.pad(scores(features), (0, 1))
        return
    novelty = known.novelty.to(trained.device)
    with Layers(trained.stage.encoder, novelty.names) as layers:
        yield lambda features: torch.cat([scores(features), novelty(layers.taken())[:, None]], 1)


NOTHING = ModelOutputs([], np.zeros((0, 0), np.float32), {})


def window_table(recordings: Recordings, outputs: ModelOutputs, classes: Sequence[str]) -> pd.DataFrame:
    """One row per window: path, unit (0 where none are sought), start_s, duration_s, score_<class>..., novelty."""
    table = pd.DataFrame(
        {
            "path": [clip.path for clip in outputs.clips],
            UNIT: np.array([clip.columns.get(UNIT, 0) for clip in outputs.clips], int),
            "start_s": np.array([clip.start_s for clip in outputs.clips], float),
            "duration_s": np.array([duration_s(recordings, clip) for clip in outputs.clips], float),
        }
    )
    values = outputs.values.astype(float).reshape(len(table), len(classes) + 1)
    scores = values[:, :-1]
    table[[SCORE + name for name in classes]] = scores / scores.sum(1, keepdims=True)
    return table.assign(novelty=values[:, -1])


def unit_table(windows: pd.DataFrame, recordings: Recordings) -> pd.DataFrame:
    """One row per unit, of the means of its windows; units without a window that could be used are left out."""
    spans = [(path, *span) for path, found in recordings.units.items() for span in found]
    units = pd.DataFrame(spans, columns=["path", "start_s", "end_s"]).astype({"start_s": float, "end_s": float})
    counts = [0, *(len(found) for found in recordings.units.values())]
    first = dict(zip(recordings.units, np.cumsum(counts), strict=False))  # row of each recording's first unit
    unit = windows["path"].map(first).astype(int) + windows[UNIT]
    means = windows.drop(columns=["path", UNIT, "start_s", "duration_s"]).groupby(unit.to_numpy()).mean()
    whole = units.loc[means.index].assign(duration_s=units["end_s"] - units["start_s"]).drop(columns="end_s")
    return whole.join(means).reset_index(drop=True)


def recording_table(recordings: Recordings, faults: Mapping[str, str], rows: pd.DataFrame) -> pd.DataFrame:
    """One row per recording: path, number of windows or units, means of scores and novelty, and what is at fault."""
    of_recording = rows.groupby("path")
    counted = "windows" if recordings.find is None else "units"
    table = of_recording[[*score_columns(rows), "novelty"]].mean()
    table.insert(0, counted, of_recording.size())
    table = table.reindex(pd.Index(recordings.paths, name="path")).reset_index()
    table[counted] = table[counted].fillna(0).astype(int)
    return table.assign(fault=[faults.get(path, "") for path in table["path"]])


def finished(table: pd.DataFrame, decisions: Decisions | None, classes: list[str]) -> pd.DataFrame:
    """The table with the class of the highest score, and what the reference says; blank in rows without scores."""
    used = table[score_columns(table)].notna().all(axis=1)
    best = table[score_columns(table)].fillna(0).to_numpy().argmax(1) if len(table) else []
    named = table.assign(predicted=[classes[index] for index in best])
    found = add_decisions(named, decisions, classes)
    for column in ("predicted", "decision", "abstained"):
        found[column] = found[column].where(used, "")
    fault = [found.pop("fault")] if "fault" in found else []
    return pd.concat([found, *fault], axis=1)  # the last column


def decided_otherwise(table: pd.DataFrame) -> list[str]:
    """How many recordings are decided to be another class than is predicted, and why that is no mistake."""
    n = int(((table["decision"] != "") & (table["decision"] != table["predicted"])).sum())
    which = counted(n, "recording has", "recordings have")
    why = "`predicted` is the highest score, `decision` the only class whose calibrated score is at its threshold"
    return [f"{which} another decision than prediction: {why}"] if n else []


def shown(table: pd.DataFrame, width: int) -> str:
    """The first recordings, a line each: the end of the path, the class and its score, or what is at fault.

    Args:
        table: as `Predicted.recordings`.
        width: of the terminal, in characters; a path takes half of it at most, a fault is written whole.
    """
    room, counted = width // 2, str(table.columns[1])
    rows = [["path", counted, "predicted", "score", "decision", "fault"]]
    for _, row in table.head(MAX_SHOWN).iterrows():
        path = printable(row["path"])
        path = path if len(path) <= room else f"...{path[3 - room :]}"
        answer = [row["predicted"], f"{row[score_columns(table)].max():.3f}"] if row[counted] else ["", ""]
        decision = row["decision"] or (f"({row['abstained']})" if row["abstained"] else "")
        rows.append([path, str(row[counted]), *answer, decision, row["fault"]])
    if not any(row[4] for row in rows[1:]):
        rows = [[*row[:4], row[5]] for row in rows]
    lines = [line.rstrip() for line in as_text(rows).splitlines()]
    more = [f"... and {len(table) - MAX_SHOWN} more"] if len(table) > MAX_SHOWN else []
    return "\n".join([*lines, *more])

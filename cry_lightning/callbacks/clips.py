"""The table of clips in W&B: a hash, the label, the scores, pictures of some, and their sound only for who asks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cry_lightning import audio
from cry_lightning.evaluation import predictions
from cry_lightning.evaluation.drawing import thumbnails
from cry_lightning.lineage import fingerprint
from cry_lightning.tasks.stage_data import StageData

MOST_ROWS = 1000
N_EXAMINED = 64  # rows with a picture


def worth_examining(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in another order: mistakes, the most confident first, then right answers, the least sure first."""
    scores = table[predictions.score_columns(table)].to_numpy()
    right = np.array(predictions.classes_of(table))[scores.argmax(1)] == table["label"].to_numpy()
    sure = scores.max(1)
    return table.iloc[np.lexsort([np.where(right, sure, -sure), right])]


def of_clips(data: StageData, table: pd.DataFrame, rows: Sequence[int], sounds: Path | None) -> pd.DataFrame:
    """What W&B is told of each clip, by a hash of its sound.

    Args:
        data: that was predicted.
        table: predictions.
        rows: of the cache that they are of, in any order.
        sounds: an empty folder for the sound of what has a picture; None leaves sound out.
    """
    import wandb

    row_of = {data.clips[row].name: row for row in rows}
    table = worth_examining(table.drop_duplicates("clip")).head(MOST_ROWS)
    shown = [row_of[name] for name in table["clip"]]
    examined = shown[:N_EXAMINED]
    hashes = [fingerprint(data.features.content[row]) for row in shown]
    columns = table.assign(clip=hashes)[["clip", "label", *predictions.score_columns(table)]].to_dict("list")
    features = data.features.gather(torch.tensor(examined))[:, 0].float().numpy()
    if min(features.shape[1:]) > 1:  # neither vectors nor waveforms
        columns["picture"] = [wandb.Image(picture) for picture in thumbnails(features)]
    if sounds is not None:
        files = [_written(data, row, sounds) for row in examined]
        columns["sound"] = [wandb.Audio(str(file)) if file else None for file in files]
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})


def _written(data: StageData, row: int, folder: Path) -> Path | None:
    """The file in a folder to which the sound of a clip is written; None where its recording is no longer there."""
    clip, path = data.clips[row], folder / f"{row}.mp3"
    try:
        path.write_bytes(audio.as_mp3(data.corpus.path_of(clip), clip.start_s, clip.duration_s))
    except (OSError, audio.AudioError):
        return None
    return path

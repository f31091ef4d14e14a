"""`python -m cry_lightning embed`: embeddings of clips by a trained encoder, and a map of them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cry_lightning.corpora import Clip, Corpus, Union
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data_argument import open_data
from cry_lightning.errors import UserError
from cry_lightning.inference.figure import Method, draw, is_drawable
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.table import COLUMNS, clip_table, verdict, write
from cry_lightning.inference.windows import hear, tell_left_out
from cry_lightning.trust.names import Trust
from cry_lightning.writing import replacing

log = logging.getLogger(__name__)


def run(
    paths: Sequence[str],
    ckpt: Path,
    trust: Sequence[str],
    out: Path,
    device: str,
    batch_size: int,
    color: str,
    method: Method,
    overrides: Sequence[str],
) -> pd.DataFrame:
    """Run the command; returns a row for each clip, by its name."""
    figure, trained = out.with_suffix(".png"), TrainedStage(ckpt, device, Trust(tuple(trust)))
    corpus, cache_dir = open_corpora(paths, trained, overrides)
    corpus.prepare()
    listed = FeatureCache(corpus, **trained.fitting, folder=cache_dir)  # never built
    check_column(color, listed.clips)
    heard = hear(trained, corpus, listed.clips, trained.stage.embed, batch_size)
    tell_left_out(heard)
    table = clip_table(corpus, heard.clips)
    leakage = verdict(table, dict(zip(listed.names, listed.content, strict=True)), trained.lineage)
    write(heard.values, table, trained, leakage, out)
    n_clips, n_numbers = heard.values.shape
    print(f"{out}: {n_clips} embeddings of {n_numbers} numbers, {leakage.status} {leakage.reason}".strip())
    embeddings = pd.DataFrame(heard.values, index=table["clip"])
    if not is_drawable(heard.values):
        log.warning("no map is drawn: it needs three different embeddings")
        return embeddings
    stamp = "" if leakage.status == "CLEAN" else f"{leakage.status}: "
    title = f"{stamp}{n_clips} clips of {corpus.name} by {ckpt}"
    drawn = draw(heard.values, table[color], method, title, alarming=bool(stamp))
    with replacing(figure) as part:
        drawn.savefig(part, format="png", dpi=150)
    print(figure)
    return embeddings


def open_corpora(paths: Sequence[str], trained: TrainedStage, overrides: Sequence[str]) -> tuple[Corpus, str]:
    """The corpora at these paths as one, and the folder of its caches; a data YAML says itself how it is cut."""
    cut = [f"--data.corpus.init_args.{name}={value}" for name, value in trained.cutting.items() if value is not None]
    data = [open_data(path, [*([] if path.endswith((".yaml", ".yml")) else cut), *overrides]) for path in paths]
    corpora = [one.corpus for one in data]
    if len(corpora) == 1:
        return corpora[0], data[0].cache_dir
    names = [corpus.name for corpus in corpora]
    for number, corpus in enumerate(corpora, 1):
        if names.count(corpus.name) > 1:
            corpus.name = f"{corpus.name}-{number}"
    return Union(corpora), data[0].cache_dir


def check_column(name: str, clips: Sequence[Clip]) -> None:
    """Refuse a column that no clip has.

    Raises:
        UserError: naming those there are.
    """
    known = list(dict.fromkeys([*COLUMNS, *(column for clip in clips for column in clip.columns)]))
    if name not in known:
        raise UserError(f"--color {name}: no such column; there are {', '.join(known)}")

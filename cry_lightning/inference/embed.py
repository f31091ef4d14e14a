"""`embed`: embeddings of clips by a trained encoder, and a map of them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cry_lightning.console import UserError, counted, printable
from cry_lightning.corpora import Corpus, Union
from cry_lightning.data.cache import FeatureCache
from cry_lightning.data.datamodule import open_data
from cry_lightning.evaluation.drawing import SCREEN, entitle
from cry_lightning.files import replacing
from cry_lightning.inference.model import TrainedStage
from cry_lightning.inference.windows import COLUMNS, clip_table, failures, report_left_out, run_model, verdict, write
from cry_lightning.trust.names import Trust

log = logging.getLogger(__name__)


Method = Literal["pca", "tsne"]
SEED = 0
PERPLEXITY = 30.0
MAX_TSNE = 5000  # clips, a minute or so of computing
MIN_DIFFERENT = 3  # embeddings: fewer lie on a line
MAX_CATEGORIES = 12
LONGEST_NAME = 24
BLANK, OTHERS = "(blank)", "(others)"
GREY = "0.7"


def draw(embeddings: np.ndarray, values: pd.Series, method: Method, title: str, stamp: str = "") -> Figure:
    """The map of embeddings (n, D), coloured by the values (n,) of one column.

    Numbers with more than 12 values have a colour bar. Of other columns the commonest values have a colour each. t-SNE
    shows 5,000 clips at most, drawn at random.
    """
    shown = np.arange(len(embeddings))
    if method == "tsne" and len(shown) > MAX_TSNE:
        shown = np.sort(np.random.default_rng(SEED).choice(shown, MAX_TSNE, replace=False))
        title = f"{title}; {MAX_TSNE:,} of them, drawn at random"
    points, labels = project(embeddings[shown], method)
    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    paint(axes, points, values.iloc[shown].reset_index(drop=True))
    axes.set(xlabel=labels[0], ylabel=labels[1], xticks=[], yticks=[])
    with SCREEN.applied():
        entitle(figure, printable(title), stamp)
    return figure


def project(embeddings: np.ndarray, method: Method) -> tuple[np.ndarray, list[str]]:
    """Points (n, 2) for embeddings (n, D), and what the two axes are; the same at every call."""
    if method == "pca":
        pca = PCA(2, random_state=SEED)
        points = pca.fit_transform(embeddings)
        shares = enumerate(pca.explained_variance_ratio_, 1)
        return points, [
            f"principal component {number} ({100 * share:.0f} % of the variance)" for number, share in shares
        ]
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    points = TSNE(init="pca", perplexity=perplexity, random_state=SEED).fit_transform(embeddings)
    return points, [f"t-SNE {number} (perplexity {perplexity:.3g}, seed {SEED})" for number in (1, 2)]


def paint(axes: Axes, points: np.ndarray, values: pd.Series) -> None:
    """Scatter points (n, 2), each in the colour of its value."""
    size = float(np.clip(20_000 / len(points), 6, 25))
    blank = (values == "").to_numpy()
    numbers = pd.to_numeric(values[~blank], errors="coerce")
    if np.isfinite(numbers).all() and numbers.nunique() > MAX_CATEGORIES:
        axes.scatter(points[blank, 0], points[blank, 1], s=size, color=GREY)
        dots = axes.scatter(points[~blank, 0], points[~blank, 1], s=size, c=numbers, cmap="viridis", linewidths=0)
        axes.figure.colorbar(dots, ax=axes, label=str(values.name))
        return
    names = categories(values)
    counts = names.value_counts()
    coloured = [name for name in counts.index if name not in (BLANK, OTHERS)]
    colours = colormaps["tab10" if len(coloured) <= 10 else "Paired"].colors  # type: ignore[attr-defined]
    colour_of = dict(zip(coloured, colours, strict=False))
    # The commonest first and the nameless before them, so that the rare are not covered.
    for name in [*(name for name in (OTHERS, BLANK) if name in counts.index), *coloured]:
        own, label = points[(names == name).to_numpy()], printable(f"{shortened(name)} ({counts[name]:,})")
        axes.scatter(own[:, 0], own[:, 1], s=size, color=colour_of.get(name, GREY), label=label, linewidths=0)
    axes.legend(title=str(values.name), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.5)


def shortened(name: str) -> str:
    """A name that leaves room for the map."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def categories(values: pd.Series) -> pd.Series:
    """The values as text, all but the commonest called others where there are more than 12."""
    names = values.astype(str).replace("", BLANK)
    counts = names[names != BLANK].value_counts()
    if len(counts) <= MAX_CATEGORIES:
        return names
    kept = [*counts.index[: MAX_CATEGORIES - 1], BLANK]
    return names.where(names.isin(kept), OTHERS)


def run(
    paths: Sequence[str],
    ckpt: Path,
    trust: Sequence[str],
    out: Path | None,
    device: str,
    batch_size: int,
    color: str,
    method: Method,
    overrides: Sequence[str],
) -> pd.DataFrame:
    """Run the command; returns a row for each clip, by its name; `attrs["failed"]` as of `predict`.

    Nothing is written, nor shown, where `out` is None.
    """
    trained = TrainedStage(ckpt, device, Trust(tuple(trust)))
    corpus, cache_dir = open_corpora(paths, trained, overrides)
    corpus.prepare()
    listed = FeatureCache(corpus, **trained.fitting, folder=cache_dir)  # never built
    known = list(dict.fromkeys([*COLUMNS, *(column for clip in listed.clips for column in clip.columns)]))
    if color not in known:
        raise UserError(f"--color {color}: no such column; there are {', '.join(known)}")
    outputs = run_model(trained, corpus, listed.clips, trained.stage.embed, batch_size, landmarks=True)
    report_left_out(outputs.bad, nothing_else=not outputs.clips)
    table = clip_table(corpus, outputs.clips)
    embeddings = pd.DataFrame(outputs.values, index=table["clip"])
    embeddings.attrs["failed"] = failures(outputs.bad)
    if out is None:
        return embeddings
    content = dict(zip(listed.clips.names, listed.content, strict=True))
    leakage = verdict(table, content, outputs.landmarks, trained.lineage)
    write(outputs.values, table, trained, leakage, out)
    n_clips, n_numbers = outputs.values.shape
    line = f"{out}: {n_clips} embeddings of {n_numbers} numbers, {leakage.status} {leakage.reason}"
    print(printable(line.strip()))
    if n_numbers < 2 or len(np.unique(outputs.values, axis=0)) < MIN_DIFFERENT:
        log.warning("no map is drawn: it needs three different embeddings")
        return embeddings
    title = f"{counted(n_clips, 'clip')} of {corpus.name} by {ckpt}"
    drawn = draw(outputs.values, table[color], method, title, "" if leakage.status == "CLEAN" else leakage.status)
    with replacing(figure := out.with_suffix(".png")) as part:
        drawn.savefig(part, format="png", dpi=150)
    print(printable(str(figure)))
    return embeddings


def open_corpora(paths: Sequence[str], trained: TrainedStage, overrides: Sequence[str]) -> tuple[Corpus, str]:
    """The corpora at these paths as one, and the folder of its caches; a data YAML says itself how it is cut."""
    cut = [f"--data.corpus.init_args.{name}={value}" for name, value in trained.cutting.items() if value is not None]
    data = [open_data(path, [*([] if path.endswith((".yaml", ".yml")) else cut), *overrides]) for path in paths]
    corpora = [one.corpus for one in data]
    if len(corpora) == 1:
        return corpora[0], data[0].cache.folder
    names = [corpus.name for corpus in corpora]
    for number, corpus in enumerate(corpora, 1):
        if names.count(corpus.name) > 1:
            corpus.name = f"{corpus.name}-{number}"
    return Union(corpora), data[0].cache.folder

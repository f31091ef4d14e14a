"""What a corpus holds: recordings measured once in constant memory, counts, and copies."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cry_lightning import audio
from cry_lightning.audio import SLACK_S
from cry_lightning.audio.recording import opened
from cry_lightning.console import UserError, counted, first_few, progress_bar
from cry_lightning.corpora import Clip, Clips
from cry_lightning.corpora.clips import further_columns
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.files import Json
from cry_lightning.lineage.acoustic_fingerprint import alike, landmarks

SEED = 0  # of the sample
FRAME_S = 0.05
FRAMES_PER_BLOCK = 200
QUIET_DB = -50.0  # a frame below this counts as silence
FULL_SCALE_DB = -0.1  # a sample above this counts as clipped: 8-bit sound ends at -0.07 dB, and codecs overshoot


class Form(TypedDict):
    """What a recording's header declares."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int


FORM = tuple(Form.__annotations__)
MEASURES = ("duration_s", "rms_dbfs", "peak_dbfs", "silence_share", "clipped_share")
LEAK, RELABELLED, COPY = "several subjects", "several classes", "copy"
SAMPLES, FINGERPRINT = "samples", "acoustic fingerprint"
COMPARED = (
    "Compared are decoded samples, and acoustic fingerprints, which find most copies that were re-encoded, resampled or"
    " trimmed."
)
NAMED = 5  # sounds, and recordings of each, that the report names; the CSV names all
ALL, UNLABELLED, BLANK = "(all)", "(unlabelled)", "(blank)"
AT_MOST = 12  # values of a column, and classes across a table or a figure


def survey(paths: Mapping[str, Path], sample: int | None = None) -> pd.DataFrame:
    """One row per recording, indexed by its name: form, measures, `sound` (a hash of its samples), `alike` and `fault`.

    `alike` is the name of the first recording that sounds the same, by acoustic fingerprint: its own, if there is none.

    Args:
        paths: name -> file.
        sample: decode only this many recordings, drawn at random; of the others, headers are read.
    """
    decoded = set(paths)
    if sample is not None and sample < len(paths):
        decoded = set(np.random.default_rng(SEED).choice(np.array(list(paths), dtype=object), sample, replace=False))
    bar = progress_bar(paths.items(), "recordings", unit="file", leave=False)
    index = pd.Index(list(paths), name="recording", dtype=object)
    table = pd.DataFrame([examine(path, name in decoded) for name, path in bar], index=index)
    table = table.reindex(columns=[*FORM, *MEASURES, "sound", "landmarks", "fault"])
    table["alike"] = first_alike(table.pop("landmarks"))
    return table.fillna({"sound": "", "fault": ""})


def first_alike(landmarks: pd.Series) -> list[str]:
    """Of each recording, by its index, the first one that sounds the same, directly or by way of others.

    Args:
        landmarks: of each 10 s of every recording, with where these begin; NaN where it was not decoded.
    """
    known = landmarks.dropna()
    sounds = [f"{place}#{each}" for place, of_recording in enumerate(known) for each in of_recording]
    place_of = np.array([place for place, of_recording in enumerate(known) for _ in of_recording], int)
    pairs = place_of[alike(sounds, sounds)].reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(known), len(known)))
    names = pd.Series(known.index.to_numpy(), known.index)
    first = names.groupby(connected_components(graph, directed=False)[1]).transform("first")
    return first.reindex(landmarks.index).fillna(pd.Series(landmarks.index, landmarks.index)).tolist()


def examine(path: Path, decode: bool) -> Json:
    """What is known of one recording; where it cannot be used, the `fault` says why."""
    try:
        form = form_of(path)
        decoded = measure(path, form["sample_rate_hz"]) if decode else {"duration_s": audio.info(path).duration_s}
    except (UserError, OSError) as error:
        return {"fault": str(error).removeprefix(f"{path}: ")}
    return {**form, **decoded}


def form_of(path: Path) -> Form:
    """Container, codec, sample rate and channels, from the header."""
    with opened(path) as reader:
        return {
            "container": reader.container,
            "codec": reader.codec,
            "sample_rate_hz": reader.sample_rate,
            "channels": reader.n_channels,
        }


def measure(path: Path, sample_rate: int) -> Json:
    """The measures of one recording, at its own sample rate (Hz), over the mean of its channels.

    Raises:
        AudioError: it cannot be decoded, or is silent or too short to be used.
    """
    frame = max(1, round(FRAME_S * sample_rate))
    n_samples, n_quiet, n_clipped, energy, peak = 0, 0, 0, 0.0, 0.0
    sound = hashlib.sha256(str(sample_rate).encode())
    pieces = []
    for block in audio.blocks(path, sample_rate, FRAMES_PER_BLOCK * frame / sample_rate):
        starts = np.arange(0, block.size, frame)
        lengths = np.diff(starts, append=block.size)
        frame_energy = np.add.reduceat(np.square(block, dtype=np.float64), starts)
        magnitude = np.abs(block)
        start_s, length_s = n_samples / sample_rate, block.size / sample_rate
        pieces += [f"{start_s:.3f}-{length_s:.3f}#{each}" for each in landmarks(block[None], sample_rate)]
        n_samples += block.size
        n_quiet += int(lengths[frame_energy < 10 ** (QUIET_DB / 10) * lengths].sum())
        n_clipped += int((magnitude >= 10 ** (FULL_SCALE_DB / 20)).sum())
        energy += frame_energy.sum()
        peak = max(peak, float(magnitude.max()))
        sound.update(block.tobytes())
    if n_samples < audio.SHORTEST_S * sample_rate:
        raise audio.AudioError(f"{path}: {n_samples} samples are too short for a clip")
    if not peak:
        raise audio.AudioError(f"{path}: silent, every sample is zero")
    figures = (
        n_samples / sample_rate,
        10 * np.log10(energy / n_samples),
        20 * np.log10(peak),
        n_quiet / n_samples,
        n_clipped / n_samples,
    )
    return dict(zip(MEASURES, figures, strict=True)) | {"sound": sound.hexdigest()[:16], "landmarks": pieces}


def duplicates(clips: pd.DataFrame, recordings: pd.DataFrame) -> pd.DataFrame:
    """A row for each recording that sounds as another does: group, recording, class, kind, by.

    The kind is that of the whole group: a leak where subjects differ, else whether classes do. So is what they were
    found by: their samples, where these are all the same, else their acoustic fingerprints.

    Args:
        clips: as from `clip_table`, usable ones only.
        recordings: as from `survey`.
    """
    usable = recordings.loc[clips["recording"].unique()]
    usable = usable[usable["sound"] != ""]
    sounds = usable.groupby("sound")["alike"].transform("first")  # the same samples too few to have landmarks
    twice = sounds[sounds.duplicated(keep=False)]
    own = clips[clips["recording"].isin(twice.index)].groupby("recording")
    named = {key: own[key].agg(lambda values: ", ".join(sorted(set(values)))) for key in ("subject", "class")}
    table = pd.DataFrame({"sound": twice, **named}).rename_axis("recording").reset_index()
    differ = table.groupby("sound")[["subject", "class"]].transform("nunique") > 1
    table["kind"] = COPY
    table.loc[differ["class"], "kind"] = RELABELLED
    table.loc[differ["subject"], "kind"] = LEAK
    table["group"] = table.groupby("sound", sort=False).ngroup() + 1
    samples = table["recording"].map(usable["sound"]).groupby(table["group"]).transform("nunique")
    table["by"] = np.where(samples == 1, SAMPLES, FINGERPRINT)
    return table.sort_values(["group", "recording"])[["group", "recording", "class", "kind", "by"]]


def in_words(found: pd.DataFrame, n_not_decoded: int) -> list[str]:
    """What was found, leaks first; how far the search went.

    Args:
        found: as from `duplicates`.
        n_not_decoded: recordings that were not decoded.
    """
    remarks = []
    for by, (kind, weight) in product(
        (SAMPLES, FINGERPRINT),
        (
            (LEAK, "LEAK: the same sound under several subjects, so that no split by subject keeps it on one side"),
            (RELABELLED, "the same sound in several classes, of one subject"),
            (COPY, "the same sound twice, of one subject"),
        ),
    ):
        groups = found[(found["kind"] == kind) & (found["by"] == by)].groupby("group")["recording"].agg(list)
        if len(groups):
            named = first_few([first_few(names, NAMED, " = ", " =") for names in groups], NAMED, "; ", "; and")
            more = " in duplicates.csv" * (len(groups) > NAMED)
            altered = ", re-encoded or cut otherwise" * (by == FINGERPRINT)
            remarks.append(f"{weight}{altered} ({len(groups)}): {named}{more}")
    if not remarks:
        remarks = ["No sound is there twice."]
    if n_not_decoded:
        which = counted(n_not_decoded, "recording was", "recordings were")
        remarks.append(f"{which} not decoded: copies of them go unseen.")
    return [*remarks, COMPARED]


def clip_table(clips: Sequence[Clip], recordings: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per clip: recording, subject, class, start_s, duration_s, and `fault` where it cannot be used.

    Args:
        clips: as the corpus lists them.
        recordings: as from `survey`.
        classes: in their order; unlabelled clips, where there are any, are one more.
    """
    rows = [(clip.path, clip.subject, clip.label or UNLABELLED, clip.start_s, clip.duration_s) for clip in clips]
    table = pd.DataFrame(rows, columns=["recording", "subject", "class", "start_s", "duration_s"])
    present = [*classes, UNLABELLED] if UNLABELLED in set(table["class"]) else list(classes)
    table["class"] = table["class"].astype(pd.CategoricalDtype(present, ordered=True))
    ends_s = table["recording"].map(recordings["duration_s"])
    table["duration_s"] = table["duration_s"].astype(float).fillna(ends_s - table["start_s"])
    table["fault"] = table["recording"].map(recordings["fault"])
    inside = (table["start_s"] + table["duration_s"] <= ends_s + SLACK_S) & (table["duration_s"] > 0)
    table.loc[(table["fault"] == "") & ~inside, "fault"] = "the clip ends after its recording"
    return table


def choose_columns(columns: pd.DataFrame, clips: Sequence[Clip], wanted: Sequence[str] | None) -> list[str]:
    """The columns to count by: those wanted; by default all whose few values come again and again.

    Without being asked for, a column is left out that has one value only, more than 12, or more than one for every two
    clips, that says no more than the class, or that tells subjects apart one by one.

    Raises:
        UserError: there is no such column.
    """
    if wanted is not None:
        if unknown := [name for name in wanted if name not in columns]:
            there = f"the columns are {', '.join(map(str, columns))}" if len(columns.columns) else "the corpus has none"
            raise UserError(f"--by {' '.join(unknown)}: no such column; {there}")
        return list(dict.fromkeys(wanted))
    few = [str(name) for name in columns if 1 < columns[name].nunique() <= min(AT_MOST, len(clips) / 2)]
    known = [pd.Series([clip.label or "" for clip in clips]), pd.Series([clip.subject for clip in clips])]
    return [name for name in few if not any(one_to_one(columns[name], other) for other in known)]


def one_to_one(values: pd.Series, others: pd.Series) -> bool:
    """Whether two columns tell the same, under other names perhaps."""
    pairs = len(pd.DataFrame({"one": values, "other": others}).drop_duplicates())
    return pairs == values.nunique() == others.nunique()


def numbers(values: pd.Series) -> pd.Series | None:
    """Texts as numbers, NaN where blank; None where some are no numbers."""
    given = pd.to_numeric(values.where(values != ""), errors="coerce")
    return given if ((given.notna() & np.isfinite(given)) == (values != "")).all() and given.notna().any() else None


def grouped(values: pd.Series) -> pd.Series:
    """The values as an ordered category: many numbers as ranges between quartiles, many texts as the commonest ones."""
    filled = values.where(values != "", BLANK)
    given = numbers(values)
    if filled.nunique() > AT_MOST and given is not None:
        return ranges(given)
    order = sorted(set(filled) - {BLANK}, key=lambda text: (float(text), text) if given is not None else text)
    ordered = filled.astype(pd.CategoricalDtype([*order, BLANK], ordered=True))
    return gathered(ordered.cat.remove_unused_categories())


def ranges(given: pd.Series) -> pd.Series:
    """Numbers as ranges between their quartiles, an ordered category."""
    edges = np.unique(given.quantile([0.25, 0.5, 0.75], interpolation="lower"))
    ends = [f"{edge:,.0f}" if edge == round(edge) else f"{edge:g}" for edge in edges]
    between = [f"above {low} to {high}" for low, high in pairwise(ends)]
    names = [f"up to {ends[0]}", *between, f"above {ends[-1]}", BLANK]
    place = np.where(given.isna(), len(names) - 1, np.searchsorted(edges, given.fillna(edges[0])))
    values = pd.Series(np.array(names, dtype=object)[place], given.index)
    return values.astype(pd.CategoricalDtype(names, ordered=True)).cat.remove_unused_categories()


def gathered(values: pd.Series) -> pd.Series:
    """A category with at most 12 values: of more, the commonest, and one for the others."""
    categories = values.cat.categories
    if len(categories) <= AT_MOST:
        return values
    common = set(values.value_counts().index[: AT_MOST - 1])
    others = f"({len(categories) - len(common)} others)"
    kept = [*(name for name in categories if name in common), others]
    return values.astype(object).where(values.isin(common), others).astype(pd.CategoricalDtype(kept, ordered=True))


def amounts(clips: pd.DataFrame) -> dict[str, float]:
    """Subjects, recordings, clips and minutes of some clips."""
    counts = {"subjects": clips["subject"].nunique(), "recordings": clips["recording"].nunique(), "clips": len(clips)}
    return {**counts, "minutes": clips["duration_s"].sum() / 60}


def by_class(clips: pd.DataFrame) -> pd.DataFrame:
    """A row for each class, unlabelled clips among them, and one for all: a paper's dataset table.

    Args:
        clips: as from `clip_table`.
    """
    rows = []
    for name, own in [*clips.groupby("class", observed=False), (ALL, clips)]:
        per_subject = own.groupby("subject").size()
        spread = {"min": per_subject.min(), "median": per_subject.median(), "max": per_subject.max()}
        rows.append({"class": name} | amounts(own) | {f"clips_per_subject_{key}": n for key, n in spread.items()})
    return pd.DataFrame(rows)


def by_column(clips: pd.DataFrame, name: str, values: pd.Series) -> pd.DataFrame:
    """A row for each value of a column and class, and for all classes.

    Args:
        clips: as from `clip_table`.
        name: of the column.
        values: of the column, an ordered category, one per clip.
    """
    table = clips.assign(value=values, **{"class": gathered(clips["class"])})
    rows = []
    for value, own in table.groupby("value", observed=False):
        for label, of_class in [(ALL, own), *own.groupby("class", observed=False)]:
            rows.append({"column": name, "value": value, "class": label} | amounts(of_class))
    return pd.DataFrame(rows)


def subjects_of(clips: pd.DataFrame) -> pd.Series:
    """How many subjects each class has that has any."""
    counts = clips.groupby("class", observed=True)["subject"].nunique().drop(UNLABELLED, errors="ignore")
    return counts.set_axis(counts.index.astype(str))


@dataclass
class CorpusSummary:
    """A corpus with its recordings measured."""

    data: CryDataModule
    listed: Clips
    clips: pd.DataFrame  # one row per listed clip, as from `clip_table`
    columns: pd.DataFrame  # to count by, of the same clips
    recordings: pd.DataFrame  # as from `survey`
    paths: dict[str, Path]  # recording -> file
    uncounted: list[str]  # columns that are counted by only when asked for

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The clips that can be used."""
        return self.clips[self.clips["fault"] == ""]

    @cached_property
    def decoded(self) -> pd.DataFrame:
        """The recordings that were decoded and can be used."""
        return self.recordings[self.recordings["sound"] != ""]

    @property
    def cut_s(self) -> tuple[float, float]:
        """Seconds of the recordings that are in clips, and of all these recordings."""
        clips = self.usable.sort_values(["recording", "start_s"])
        whose, ends_s = clips["recording"], clips["start_s"] + clips["duration_s"]
        covered_s = ends_s.groupby(whose).cummax().groupby(whose).shift(fill_value=0.0)  # by the clips before
        in_clips_s = (ends_s - np.maximum(clips["start_s"], covered_s)).clip(lower=0).sum()
        return float(in_clips_s), float(self.recordings.loc[whose.unique(), "duration_s"].sum())

    @property
    def n_not_decoded(self) -> int:
        """Recordings that are not in the sample, and known by their headers only."""
        return int(((self.recordings["sound"] == "") & (self.recordings["fault"] == "")).sum())


def take(data: CryDataModule, by: Sequence[str] | None, sample: int | None) -> CorpusSummary:
    """Write what is synthetic, list the clips, and measure the recordings.

    Args:
        data: whose corpus and windows; no feature is computed.
        by: columns to count by; see `choose_columns`.
        sample: decode only this many recordings.

    Raises:
        UserError: there is no such column, or nothing can be used.
    """
    corpus = data.corpus
    corpus.prepare()
    clips = Clips.of(corpus.clips(Path(data.cache.folder).expanduser()))
    columns = further_columns(clips)
    chosen = choose_columns(columns, clips, by)  # a wrong name is reported before anything is decoded
    uncounted = [] if by else [str(name) for name in columns if name not in chosen]
    paths = {clip.path: corpus.path_of(clip) for clip in clips}
    recordings = survey(paths, sample)
    table = clip_table(clips, recordings, corpus.class_names())
    census = CorpusSummary(data, clips, table, columns[chosen], recordings, paths, uncounted)
    if census.usable.empty:
        faults = table.loc[table["fault"] != "", ["recording", "fault"]]
        first = ": ".join(faults.iloc[0]) if len(faults) else "it lists no clip"
        raise UserError(f"corpus {corpus.name} at {corpus.root}: no clip can be used; the first, {first}")
    return census

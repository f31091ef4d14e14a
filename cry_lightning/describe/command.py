"""`python -m cry_lightning describe`: a report on a corpus, section by section, with tables and a figure beside it."""

import textwrap
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from cry_lightning.commands.arguments import check_folder, find_shipped
from cry_lightning.commands.configs import ENDINGS
from cry_lightning.console import (
    UserError,
    as_markdown_list,
    as_markdown_text,
    counted,
    counted_plural,
    on_one_line,
    printable,
)
from cry_lightning.corpora import Clip, Manifest
from cry_lightning.corpora.base import named_subjects
from cry_lightning.data.datamodule import open_data
from cry_lightning.describe import summary, support
from cry_lightning.describe.figures import LONGEST_S, Example, choose, draw, example
from cry_lightning.describe.summary import FORM, FRAME_S, FULL_SCALE_DB, QUIET_DB, SEED, UNLABELLED, CorpusSummary
from cry_lightning.evaluation.compare import Rows, as_markdown, as_text
from cry_lightning.evaluation.drawing import SCREEN, save
from cry_lightning.files import write_table, write_text
from cry_lightning.lineage.spelling import doubts, own_part

OWN = "configs/data/own.yaml"
WIDTH = 110
SHOWN = 5  # subjects
FIRST = 10  # files that the report names; the CSV names all
CLIPPED_BADLY = 0.001
WHOLE = 0.95  # of the recordings in clips: what is left over behind windows is not worth a word
MEASURED = (
    "Measured on the mean of the channels, at each recording's own rate. Level: a sine at full scale has -3 dBFS."
    f" Silence: share of {1000 * FRAME_S:.0f} ms frames below {QUIET_DB:g} dBFS. At full scale: share of samples above"
    f" {FULL_SCALE_DB:g} dBFS; clipping leaves many, a recording made as loud as it can be a few."
)
write_csv = partial(write_table, float_format="%.6g", errors="backslashreplace")


def run(given: str, overrides: Sequence[str], by: Sequence[str] | None, sample: int | None, out: Path | None) -> Path:
    """Run the command; returns the report's path."""
    data = open_data(given, overrides)
    out = out or Path("runs", data.corpus.name, "describe")
    check_folder("--out", out)
    sections = sections_of(census := summary.take(data, by, sample), out)
    if data.corpus.window_s is None and not given.lower().endswith(ENDINGS):
        faulty = census.recordings.index[census.recordings["fault"] != ""]
        sections[0].remarks += as_make_cuts(given, overrides, set(faulty))
    write_text(printable(as_page(data.corpus.name, sections)), out / "describe.md")
    print(printable(as_terminal(sections)))
    print(f"\nReport: {out / 'describe.md'}")
    return out / "describe.md"


def as_make_cuts(given: str, overrides: Sequence[str], faulty: Container[str]) -> list[str]:
    """What `make` trains on where it is given a path, in words: windows are counted by the headers of files alone.

    Args:
        given: the path.
        overrides: as of `open_data`.
        faulty: recordings that cannot be used.
    """
    corpus = open_data(find_shipped([OWN])[0], [f"--data.corpus.init_args.path={given}", *overrides]).corpus
    level_db, corpus.min_active_db = corpus.min_active_db, None
    if corpus.window_s is None:
        return []
    quiet = f", less the windows below {level_db:g} dB" if level_db is not None else ""
    cut = f"`make` cuts them into windows of {corpus.window_s:g} s, by {OWN}"
    n_clips = sum(path not in faulty for path in corpus.clips().paths)
    return [f"Clips are whole here; {cut}: {counted(n_clips, 'clip')}{quiet}."]


@dataclass
class Section:
    """A heading, and what stands below it."""

    title: str
    tables: list[Rows] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    figure: str = ""  # file name, beside the report


def as_terminal(sections: Sequence[Section]) -> str:
    """Plain text; figures are left out."""
    blocks = []
    for section in sections:
        blocks += [f"{section.title}\n{'=' * len(section.title)}", *map(as_text, section.tables)]
        lines = [textwrap.fill(f"- {on_one_line(remark)}", WIDTH, subsequent_indent="  ") for remark in section.remarks]
        blocks += ["\n".join(lines)] if lines else []
    return "\n\n".join(blocks)


def as_page(title: str, sections: Sequence[Section]) -> str:
    """Markdown."""
    blocks = [f"# {as_markdown_text(title)}"]
    for section in sections:
        blocks += [f"## {as_markdown_text(section.title)}", *map(as_markdown, section.tables)]
        blocks += [f"![{as_markdown_text(section.title)}]({section.figure})"] if section.figure else []
        blocks += [as_markdown_list(section.remarks)] if section.remarks else []
    return "\n\n".join(blocks) + "\n"


def sections_of(census: CorpusSummary, out: Path) -> list[Section]:
    """Every section, their tables and figure written into a folder."""
    for name in ("clips.png", "split.csv"):  # not every corpus has them, and an older one's must not stay
        (out / name).unlink(missing_ok=True)
    return [
        who(census, out),
        *by_columns(census, out),
        sound(census, out),
        left_out(census, out),
        copies(census, out),
        picture(census, out),
        splits(census, out),
    ]


def who(census: CorpusSummary, out: Path) -> Section:
    """The dataset table."""
    table = summary.by_class(census.usable)
    write_csv(table, out / "classes.csv")
    return Section("Classes and subjects", [support.class_rows(table)], list(remarks_on_subjects(census)))


def remarks_on_subjects(census: CorpusSummary) -> Iterator[str]:
    """What the dataset table does not show."""
    clips = census.usable
    if isinstance(corpus := census.data.corpus, Manifest):
        for name, all_are in {corpus.label: "unlabelled", "subject": "of no known subject"}.items():
            if name not in corpus.columns:
                has = f"its columns are {', '.join(filter(None, corpus.columns))}. Rename the one that is meant."
                yield f"The table has no column `{name}`, so that all clips are {all_are}; {has}"
    yield from doubts(named_subjects(census.listed), [clip.label for clip in census.listed.used])
    yield from found_subjects(census.listed.used)
    labelled = clips[clips["class"] != UNLABELLED]
    if clips["subject"].nunique() == clips["recording"].nunique():
        yield "Each recording has a subject of its own. If one infant made several, no split can keep it on one side."
    if labelled["class"].nunique() > 1:
        several = (labelled.groupby("subject")["class"].nunique() > 1).sum()
        of = f"of {labelled['subject'].nunique():,} labelled subjects"
        yield f"{counted(several, f'{of} has', f'{of} have')} clips of several classes."
        shares = labelled["class"].value_counts(normalize=True)
        yield f"{shares.iloc[0]:.1%} of the labelled clips are {shares.index[0]}: the accuracy of always saying so."


def found_subjects(clips: Sequence[Clip]) -> Iterator[str]:
    """Some of the subjects that were found in paths, for a person to see whether they are infants."""
    pairs = {(own_part(clip.subject), clip.path) for clip in clips if clip.subject_source == "rule"}
    n_recordings = sorted(Counter(subject for subject, _ in pairs).items(), key=lambda item: (item[1], item[0]))
    if not n_recordings:
        return
    places = dict.fromkeys(round(step * (len(n_recordings) - 1) / (SHOWN - 1)) for step in range(SHOWN))
    shown = [f"{name!r} {n}" for name, n in map(n_recordings.__getitem__, places)]
    of = f"{counted(len(n_recordings), 'subject was', 'subjects were')} found in the paths of recordings"
    yield f"{of}; from that of the fewest recordings to that of the most: {', '.join(shown)}."
    if odd := [name for name, _ in n_recordings if "/" in name]:
        yield (
            f"{counted(len(odd), 'of these holds', 'of these hold')} a slash, such as {odd[0]!r}: one infant in two"
            " folders would be two subjects; let subject_pattern find what no folder is part of, as by ([^/]+)."
        )


def by_columns(census: CorpusSummary, out: Path) -> list[Section]:
    """One table for each column, and one for the form of the recordings."""
    clips = census.usable
    form = census.recordings[[*FORM]].apply(in_words, axis=1)
    columns = census.columns.loc[clips.index].assign(**{"form of recording": clips["recording"].map(form)})
    found, sections = [], []
    for name, values in columns.items():
        found.append(summary.by_column(clips, str(name), summary.grouped(values)))
        several = (values.groupby(clips["subject"]).nunique() > 1).sum()
        remarks = [f"{counted(several, 'subject has', 'subjects have')} several values."] if several else []
        sections.append(Section(f"By {name}: clips (subjects)", [support.column_rows(found[-1])], remarks))
    if census.uncounted:
        sections[-1].remarks.append(
            f"Not counted by, unless --by names them: {', '.join(census.uncounted)}. They have one value, more than"
            f" {summary.AT_MOST}, or more than one for every two clips, or say no more than class or subject."
        )
    write_csv(pd.concat(found), out / "columns.csv")
    return sections


def in_words(form: pd.Series) -> str:
    """The form of a recording."""
    if pd.isna(form["sample_rate_hz"]):
        return ""
    channels = "mono" if form["channels"] == 1 else f"{form['channels']:.0f} channels"
    return f"{form['container']} {form['codec']}, {form['sample_rate_hz']:,.0f} Hz, {channels}"


def sound(census: CorpusSummary, out: Path) -> Section:
    """Durations, levels, silence and clipping."""
    clips, recordings = census.usable, census.recordings
    write_csv(recordings.reset_index(), out / "recordings.csv")
    of_class = {str(name): own["recording"].unique() for name, own in clips.groupby("class", observed=True)}
    quantiles = support.measured(recordings, of_class)
    write_csv(quantiles, out / "sound.csv")
    shown = [support.measure_rows(quantiles)] + ([support.median_rows(quantiles)] if len(of_class) > 1 else [])
    return Section("Sound", shown, list(remarks_on_sound(census)))


def remarks_on_sound(census: CorpusSummary) -> Iterator[str]:
    """How many recordings are clipped or quiet, and how all that was measured."""
    decoded = census.decoded
    if census.n_not_decoded:
        yield (
            f"Levels, silence and clipping are those of {len(decoded):,} recordings, drawn with the seed {SEED};"
            f" {counted(census.n_not_decoded, 'other was', 'others were')} not decoded: only their headers were read."
        )
    in_clips_s, of_s = census.cut_s
    if in_clips_s < WHOLE * of_s:
        yield (
            f"All this is of whole recordings, and the clips are {in_clips_s / of_s:.1%} of their {of_s / 60:,.1f} min:"
            " the rest, which no clip holds, is measured too."
        )
    clipped, badly = (int((decoded["clipped_share"] > share).sum()) for share in (0, CLIPPED_BADLY))
    of = f"of {len(decoded):,} recordings"
    yield (
        f"{counted(clipped, f'{of} has', f'{of} have')} samples at full scale; in {badly:,} they are more than"
        f" {CLIPPED_BADLY:.1%} of all samples."
    )
    if quiet := int((decoded["silence_share"] == 1).sum()):
        yield f"{counted(quiet, 'recording is', 'recordings are')} nowhere above {QUIET_DB:g} dBFS."
    yield MEASURED


def left_out(census: CorpusSummary, out: Path) -> Section:
    """What the corpus leaves out and what cannot be used, and why."""
    faulty = census.clips[census.clips["fault"] != ""]
    table = faulty.groupby(["recording", "fault"], sort=False).size().rename("clips").reset_index()
    write_csv(table[["recording", "clips", "fault"]], out / "left_out.csv")
    kinds = census.data.corpus.left_out.items()
    remarks = [counted_plural(n, what) for what, n in kinds if n]
    if len(faulty):
        of = counted(table["recording"].nunique(), "recording")
        remarks.append(f"{counted(len(faulty), 'clip')} of {of} cannot be used; not counted:")
        remarks += [f"`{row.recording}`: {row.fault}" for row in table.head(FIRST).itertuples()]
    if len(table) > FIRST:
        remarks.append(f"and {len(table) - FIRST:,} more, in left_out.csv")
    return Section("Left out", [], remarks or ["Nothing: every clip can be used."])


def copies(census: CorpusSummary, out: Path) -> Section:
    """The same sound under several names."""
    found = summary.duplicates(census.usable, census.recordings)
    write_csv(found, out / "duplicates.csv")
    return Section("The same sound twice", [], summary.in_words(found, census.n_not_decoded))


def picture(census: CorpusSummary, out: Path) -> Section:
    """Waveform and feature of one clip of each class."""
    feature = census.data.feature
    chosen = choose(census.usable, census.recordings, census.paths)
    at = "its own sample rate" if feature.own_rate else f"{feature.sample_rate:,} Hz"
    remarks = [
        f"Of each class the clip of median level in the recording of median level, up to {LONGEST_S:g} s of it, at"
        f" {at}; the front end is {type(feature).__name__}."
    ]
    if missing := len(summary.subjects_of(census.usable).drop(chosen["class"], errors="ignore")):
        which = counted(missing, "class is", "classes are")
        remarks.append(f"{which} not shown, for want of clips or of any that was decoded.")
    examples: list[Example] = []
    for _, clip in chosen.iterrows():
        try:
            examples.append(example(clip, census.paths[clip["recording"]], feature))
        except UserError as error:
            remarks.append(f"No picture of {clip['class']}: {error}")
    if not examples:
        return Section("One clip of each class", [], remarks)
    with SCREEN.applied():
        save(draw(examples, feature, f"{census.data.corpus.name}, a clip of median level"), out / "clips.png")
    return Section("One clip of each class", [], remarks, "clips.png")


def splits(census: CorpusSummary, out: Path) -> Section:
    """What the subjects can support."""
    data, clips = census.data, census.usable
    subjects = summary.subjects_of(clips)
    if subjects.empty:
        nothing = (
            "No clip has a label (of a manifest, the column `label`): there is nothing to test on; learning without"
            " labels (SimCLR) is what is left."
        )
        return Section("Splits", [], [nothing])
    n_labelled = clips.loc[clips["class"] != UNLABELLED, "subject"].nunique()
    folds = support.across_subjects(subjects, n_labelled, data.split.val)
    title = f"The data's own split: {support.split_in_words(data.split)}"
    good = (census.clips["fault"] == "").to_numpy()
    try:
        parts = support.parts_of(data, census.listed, good)[good]
    except UserError as error:
        return Section("Splits", [], [f"{title}: impossible; {error}", *folds])
    table = support.part_table(clips, parts, list(subjects.index))
    write_csv(table, out / "split.csv")
    test = support.of_the_test(clips, parts, data.split, subjects)
    return Section("Splits", [support.part_rows(table)], [f"{title}; subjects (clips).", *test, *folds])

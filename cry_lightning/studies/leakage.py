"""`leakage`: one recipe divided by subject, recording and clip, and what identity or the recorder alone would reach."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from matplotlib.figure import Figure
from sklearn.ensemble import HistGradientBoostingClassifier

from cry_lightning.audio.recording import opened
from cry_lightning.cli.process import quiet
from cry_lightning.commands.arguments import check_folder
from cry_lightning.console import UserError, progress_bar
from cry_lightning.dashboard.runs import send_curves, with_interval
from cry_lightning.data.building import ClipBatches
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.evaluation.compare import Rows, as_markdown, as_text, cell
from cry_lightning.evaluation.drawing import SCREEN, as_svg, save
from cry_lightning.evaluation.intervals import Baseline, Estimate, Jackknife
from cry_lightning.evaluation.metrics import majority, units_at
from cry_lightning.evaluation.predictions import classes_of, score_columns
from cry_lightning.evaluation.run import Tested, drawn_of, n_unknown, read_run
from cry_lightning.files import Json, write_json, write_table, write_text
from cry_lightning.lineage import Leakage
from cry_lightning.report.page import StudyPage, write_page
from cry_lightning.report.words import STAMPS
from cry_lightning.studies import engine
from cry_lightning.studies.cross_validation import planned
from cry_lightning.studies.division import CrossValidationPlan
from cry_lightning.studies.engine import StageConfig, open_study

log = logging.getLogger(__name__)

BY_SUBJECT, BY_CLIP = "by subject", "by clip"
GROUPS = {BY_SUBJECT: "subject", "by recording": "recording", BY_CLIP: "clip"}
AUGMENTED = "augmented, then by clip"
MODEL, IDENTITY, RECORDER, MAJORITY = "model", "identity only", "recorder only", "majority"
METRICS = {"uar": "UAR", "macro_auc": "AUC"}
GAIN_DB, NOISE_DB = 6.0, -20.0  # of copies: level at random by up to, and white noise relative to the clip
BINS = 64  # of a spectrum in equal steps of frequency
MOST_IN_LEAF = 20  # clips that a leaf of the boosted trees takes at least; of few, a tenth, for 20 would not split them
SEED = 0
HEAD = """\
One recipe, divided in several ways. What it gains from "by subject" down to "by clip" is knowledge of {identity}, not
of why. Identity only: the labels of the same {kind}'s training clips. Recorder only: gradient boosting on level,
clipping, spectral tilt, bandwidth, noise floor, length of the file, sample rate, channels and container. Brackets:
95 % intervals over {drawn}."""
UNKNOWN = (
    " The subjects of {n} of {of} clips are not known, and the recording of each stands for its subject. What"
    " recordings of one infant share is not known apart: it is in all of these figures."
)


Train = Callable[[str, Sequence[str], Path], Path]  # what is never divided, arguments, folder -> the run folder


def ladder(data: CryDataModule, train: Train, copies: int, out: Path) -> dict[str, Tested]:
    """Cross-validate the recipe in each way that differs; returns the pooled tests under each.

    Args:
        data: of the recipe, set up.
        train: cross-validates it.
        copies: of each clip, with another level and noise, before the last division; 0 leaves that out.
        out: where all is written.
    """
    rungs = {}
    recordings = len({clip.path for clip in data.clips})
    for name, group in GROUPS.items():
        if group == "recording" and recordings == len(data.clips):
            log.info("every recording is one clip: by recording is by clip")
            continue
        log.info("%s", name)
        rungs[name] = read_run(str(train(group, [], out / name.replace(" ", "-"))), "test")
    if copies:
        log.info("%s", AUGMENTED)
        manifest = write_copies(data, copies, out / "copies")
        corpus = {"class_path": "cry_lightning.corpora.Manifest", "init_args": {"root": str(manifest)}}
        given = [f"--data.corpus={json.dumps(corpus)}", "--data.split.column=null"]
        rungs[AUGMENTED] = read_run(str(train("clip", given, out / "augmented")), "test")
    return rungs


def write_copies(data: CryDataModule, copies: int, folder: Path) -> Path:
    """Write each labelled clip and some copies of it as WAV files; returns their manifest."""
    manifest = folder / "manifest.csv"
    settings = {"copies": copies, "clip_s": data.clip_s, "gain_db": GAIN_DB, "noise_db": NOISE_DB}
    provenance: Json = {"stages": {}, "settings": settings, "data": engine.digest(data)}
    if engine.is_finished(folder, provenance, (manifest.name,)):
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(SEED), []
    for row, waveform, rate in _waveforms(data):
        clip = data.clips[row]
        for copy in range(1 + copies):
            sound = waveform if not copy else _disturbed(waveform, rng)
            path = f"{row:06d}-{copy}.wav"
            soundfile.write(folder / path, sound, rate, subtype="FLOAT")
            rows.append({"path": path, "label": clip.label, "subject": clip.subject})
    write_table(pd.DataFrame(rows), manifest)
    write_json(provenance, folder / engine.MARK)  # written last: a folder without it, or of other clips, is begun anew
    return manifest


def _waveforms(data: CryDataModule) -> Iterator[tuple[int, np.ndarray, int]]:
    """Row, sound (N,) and rate of each labelled clip that can be used, of the length that the network is given."""
    rows = data.labelled_rows
    reader = ClipBatches(data.corpus, data.clips, data.feature, data.clip_s, data.fit, "float32")
    for row in progress_bar(rows, "clips", unit="clip", leave=False):
        yield int(row), *reader.waveform(int(row))


def _disturbed(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    level = np.sqrt(np.mean(np.square(waveform))) * 10 ** (NOISE_DB / 20)
    noisy = waveform + level * rng.standard_normal(len(waveform))
    return (noisy * 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20)).astype(np.float32)


def recorder_features(data: CryDataModule) -> pd.DataFrame:
    """A row for each labelled clip, by its name: what the recorder and its settings decide, as numbers."""
    rows = {}
    for row, waveform, rate in _waveforms(data):
        clip = data.clips[row]
        rows[clip.name] = _form(data.corpus.path_of(clip)) | _sound(waveform, rate)
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.assign(container=table["container"].astype("category").cat.codes)


def _form(path: Path) -> dict[str, object]:
    with opened(path) as reader:
        return {
            "container": f"{reader.container} {reader.codec}",
            "sample_rate": reader.sample_rate,
            "channels": reader.n_channels,
            "bytes": path.stat().st_size,
        }


def _sound(waveform: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Level (dB), share of clipped and of zero samples, spectral tilt (dB per octave) and bandwidth (Hz)."""
    power = np.square(np.abs(np.fft.rfft(waveform)))[1:]
    bands = np.array([band.mean() for band in np.array_split(power, BINS)]) + 1e-12
    frequency = (np.arange(BINS) + 0.5) * sample_rate / 2 / BINS
    tilt = np.polyfit(np.log2(frequency), 10 * np.log10(bands), 1)[0]
    reached = np.searchsorted(np.cumsum(bands), 0.99 * bands.sum())
    peak = np.abs(waveform).max()
    return {
        "level_db": 10 * np.log10(np.mean(np.square(waveform)) + 1e-12),
        "peak": float(peak),
        "clipped": float((np.abs(waveform) >= 0.99 * max(peak, 1e-9)).mean()),
        "zeros": float((waveform == 0).mean()),
        "tilt": float(tilt),
        "bandwidth_hz": float(frequency[min(reached, BINS - 1)]),
        "floor_db": float(10 * np.log10(np.quantile(bands, 0.05))),
    }


def identity_only(table: pd.DataFrame) -> pd.DataFrame:
    """The same tests as scored by the labels of the same subject's clips in the other folds.

    A subject without any is scored by how frequent the classes are.
    """
    return _by_folds(table, lambda trained, tested: _shares_of_subjects(trained, tested, classes_of(table)))


def _shares_of_subjects(trained: pd.DataFrame, tested: pd.DataFrame, classes: list[str]) -> np.ndarray:
    counts = pd.crosstab(trained["subject"], trained["label"]).reindex(columns=classes, fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0)
    frequent = counts.sum() / counts.to_numpy().sum()
    return shares.reindex(tested["subject"]).fillna(frequent).to_numpy()


def recorder_only(table: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """The same tests as scored by gradient boosting on `recorder_features`, fitted to the other folds."""

    def scored(trained: pd.DataFrame, tested: pd.DataFrame) -> np.ndarray:
        in_leaf = min(MOST_IN_LEAF, max(1, len(trained) // 10))
        model = HistGradientBoostingClassifier(
            class_weight="balanced", max_depth=3, min_samples_leaf=in_leaf, random_state=SEED
        )
        model.fit(features.loc[trained["clip"]], trained["label"])
        found = pd.DataFrame(model.predict_proba(features.loc[tested["clip"]]), columns=model.classes_)
        return found.reindex(columns=classes_of(table), fill_value=0.0).to_numpy()

    return _by_folds(table, scored)


def _by_folds(table: pd.DataFrame, scored: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]) -> pd.DataFrame:
    """A table with the scores (n, K) that some rule learns for each fold from the other folds of its repeat."""
    found = table.copy()
    for _, of_repeat in table.groupby("repeat"):
        for fold, tested in of_repeat.groupby("fold"):
            found.loc[tested.index, score_columns(table)] = scored(of_repeat[of_repeat["fold"] != fold], tested)
    return found


def results(rungs: Mapping[str, Tested], features: pd.DataFrame) -> pd.DataFrame:
    """division, predictor, metric, value, low, high, clips, subjects, lineage; baselines by subject and by clip.

    The number of subjects is NA where some are not known.
    """
    rows, unknown = [], n_unknown(rungs[BY_SUBJECT].table)
    for division, run in rungs.items():
        scored = {MODEL: (tested := run.table)}
        if division in (BY_SUBJECT, BY_CLIP):
            scored |= {IDENTITY: identity_only(tested), RECORDER: recorder_only(tested, features)}
            scored[MAJORITY] = tested.assign(**_scores(majority(units_at("clip", tested))))
        for predictor, table in scored.items():
            units = units_at("clip", table)
            jackknife = (Baseline if predictor == MAJORITY else Jackknife).of(units)
            subjects = pd.NA if unknown else units.n_subjects
            of_all = units.n_clips, subjects, run.leakage.status if predictor == MODEL else ""
            rows += [(division, predictor, metric, *jackknife.score(metric), *of_all) for metric in METRICS]
    columns = ["division", "predictor", "metric", "value", "low", "high", "clips", "subjects", "lineage"]
    return pd.DataFrame(rows, columns=columns).astype({"subjects": "Int64"})


def _scores(table: pd.DataFrame) -> dict[str, float]:
    """The scores of a table that has the same in each row."""
    return {column: float(table[column].iloc[0]) for column in score_columns(table)}


def reading(table: pd.DataFrame) -> str:
    """How to read the ladder, of the clips of a tested table."""
    n = n_unknown(table)
    return HEAD.format_map(_named(table)) + UNKNOWN.format(n=n, of=table["clip"].nunique()) * bool(n)


def _named(table: pd.DataFrame) -> dict[str, str]:
    """What identity is that of, in words."""
    drawn = drawn_of(table)
    identity, kind = ("which recording it is", "recording") if drawn == "recordings" else ("who cries", "subject")
    return {"identity": identity, "kind": kind, "drawn": drawn}


def verdict(rungs: Mapping[str, Tested], found: pd.DataFrame) -> str:
    """How much of the score above chance is identity, and how much the recorder alone would reach.

    By subject and by clip, the same clips of the same subjects are tested, so that the difference is paired. It tells
    what identity is worth only where the model by subject was trained on none of them.
    """
    chance = 1 / rungs[BY_CLIP].table["label"].nunique()
    by_clip, by_subject = (Jackknife.of(units_at("clip", rungs[name].table)) for name in (BY_CLIP, BY_SUBJECT))
    gained = _estimate(by_clip.difference(by_subject, "uar"))
    rows = found[found["metric"] == "uar"].to_dict("records")
    uar = {(row["division"], row["predictor"]): pd.Series(row) for row in rows}
    above, rest, recorder = uar[BY_CLIP, MODEL]["value"] - chance, uar[BY_SUBJECT, MODEL], uar[BY_SUBJECT, RECORDER]
    named, leakage = _named(rungs[BY_SUBJECT].table), rungs[BY_SUBJECT].leakage
    no_interval = f"there is no interval, so this says nothing about other {named['drawn']}"

    def judged(estimate: pd.Series, threshold: float, higher: str, lower: str, neither: str) -> str:
        if np.isnan(estimate["low"]):
            return no_interval
        return higher if estimate["low"] > threshold else lower if estimate["high"] < threshold else neither

    apart = "no evidence that labels and recorders go together"
    together = judged(recorder, chance, "labels and recorders go together", apart, apart)
    said = [f"By clip, UAR is {abs(above):.3f} {'above' if above >= 0 else 'below'} chance ({chance:.3f})."]
    if leakage.status == "LEAKY":
        said.append(
            f"By subject, {cell(rest)} is {_stamped(leakage)} What is knowledge of {named['identity']}, and what would"
            " remain without it, cannot be told: train the earlier stages without these subjects."
        )
    else:
        knows = f"knowledge of {named['identity']}"
        of_gain = judged(gained, 0, f"{knows}, which by subject is not there", f"no {knows}", f"no evidence of {knows}")
        of_rest = judged(rest, chance, "more than chance", "less than chance", "no evidence of more than chance")
        said.append(f"By clip less by subject, it is {cell(gained)}: {of_gain}. By subject, {cell(rest)}: {of_rest}.")
        said += [] if leakage.status == "CLEAN" else [f"Yet what is found by subject is {_stamped(leakage)}"]
    return " ".join([*said, f"By subject, the recorder alone reaches {cell(recorder)}: {together}."])


def _stamped(leakage: Leakage) -> str:
    return f"{leakage.status} ({leakage.reason}). {STAMPS[leakage.status]}"


def _estimate(found: Estimate) -> pd.Series:
    return pd.Series(found, ["value", "low", "high"])


def as_rows(found: pd.DataFrame) -> Rows:
    """A row for each division and predictor."""
    rows = [["division", "predictor", "clips/subj.", *METRICS.values(), "lineage"]]
    for (division, predictor), own in found.groupby(["division", "predictor"], sort=False):
        first = own.iloc[0]
        cells = [cell(own[own["metric"] == metric].iloc[0]) for metric in METRICS]
        of_all = f"{first['clips']}/{'?' if pd.isna(first['subjects']) else first['subjects']}"
        rows.append([str(division), str(predictor), of_all, *cells, first["lineage"]])
    return rows


def shown(found: pd.DataFrame) -> dict[str, float]:
    """The same for the dashboard, as leakage/DIVISION/PREDICTOR/METRIC and their bounds."""
    values: dict[str, float] = {}
    for _, row in found.iterrows():
        names = (re.sub(r"[ ,]+", "_", row[column]) for column in ("division", "predictor", "metric"))
        values |= with_interval("/".join(["leakage", *names]), row)
    return values


def draw(found: pd.DataFrame, chance: float) -> Figure:
    """UAR of each division and predictor with its interval."""
    own = found[found["metric"] == "uar"].reset_index(drop=True)
    figure = Figure(figsize=(7, 0.45 * len(own) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(own))[::-1]
    for predictor, marker in ((MODEL, "o"), (IDENTITY, "s"), (RECORDER, "^"), (MAJORITY, "x")):
        rows = np.flatnonzero(own["predictor"] == predictor)
        some = own.iloc[rows]
        bars = np.nan_to_num([some["value"] - some["low"], some["high"] - some["value"]])
        axes.errorbar(
            some["value"], places[rows], xerr=bars, marker=marker, linestyle="none", capsize=3, label=predictor
        )
    axes.axvline(chance, color="grey", linestyle=":", label="chance")
    own["lineage"] = own["lineage"].replace("CLEAN", "")
    named = own[["division", "predictor", "lineage"]].itertuples(index=False)
    axes.set_yticks(places, [", ".join(filter(None, row)) for row in named])
    axes.set(xlabel="UAR", xlim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def run(
    stage: StageConfig, division: CrossValidationPlan, copies: int, jobs: int, out: Path | None, command: str
) -> pd.DataFrame:
    """Run the command; returns what leakage.csv holds.

    Beside it are leakage.md, leakage.png, leakage.svg and report.html, all in `out`.

    Raises:
        UserError: each subject has one clip, or the recipe cannot be cross-validated so.
    """
    study = open_study(stage)
    data, name = study.data, study.config["name"]
    out = out or Path(study.config["runs"]) / study.corpus / f"leakage-{name}"
    check_folder("--out", out)
    labelled = [clip for clip in data.clips if clip.label is not None]
    if len(labelled) == len({clip.subject for clip in labelled}):
        raise UserError(f"{data.corpus.name}: every subject has one clip, so that there is no identity to leak")

    def train(group: str, given: Sequence[str], folder: Path) -> Path:
        of_group = replace(division, group=group)
        with quiet():
            return planned([stage.changed(given)], of_group, folder).run(jobs, keep=False)

    rungs = ladder(data, train, copies, out)
    found = results(rungs, recorder_features(data))
    text = verdict(rungs, found)
    write_table(found, out / "leakage.csv")
    with SCREEN.applied():
        save(figure := draw(found, 1 / len(data.classes)), out / "leakage.png", ".svg")
        caption = "UAR by division, of the model and of what knows less, with 95 % intervals"
        figures = [(caption, as_svg(figure, "leakage"))]
    title, head = f"Leakage ladder of {study.corpus}", reading(rungs[BY_SUBJECT].table)
    page = StudyPage(title, command, [as_rows(found)], verdict=text, figures=figures, reading=[head])
    html = write_page(page, out)
    lines = [f"# {title}", text, as_markdown(as_rows(found)), head, "![UAR](leakage.png)"]
    write_text("\n\n".join(lines) + "\n", out / "leakage.md")
    send_curves(out, summary=shown(found))
    print(f"{as_text(as_rows(found))}\n\n{head}\n\n{text}\n\n{out / 'leakage.md'}\n{html}")
    return found

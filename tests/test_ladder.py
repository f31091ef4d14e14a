"""`leakage`: what identity alone and the recorder alone reach, and the verdict."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.data.datamodule import CryDataModule
from cry_lightning.evaluation.run import Tested as Rung  # not by a name that pytest takes for tests
from cry_lightning.lineage import Leakage, Overlap
from cry_lightning.studies import leakage
from cry_lightning.studies.leakage import BY_CLIP, BY_SUBJECT, IDENTITY, MAJORITY, MODEL, RECORDER

main = partial(command, "leakage")
N_SUBJECTS, N_CLIPS = 24, 10
CLEAN = Leakage("CLEAN", [])


def pooled(group: str, skill: float, seed: int = 0) -> pd.DataFrame:
    """Five folds by subject or by clip of infants who each have one label, scored by some model."""
    rng = np.random.default_rng(seed)
    subject, take = (each.ravel() for each in np.indices((N_SUBJECTS, N_CLIPS)))
    label = np.where(subject % 2, "b", "a")
    score = 1 / (1 + np.exp(-skill * np.where(label == "b", 1, -1) - rng.normal(0, 1, len(label))))
    names = [f"{one}-{other}" for one, other in zip(subject, take, strict=True)]
    fold = subject // 2 % 5 if group == "subject" else rng.permutation(len(label)) % 5
    table = pd.DataFrame({"clip": names, "recording": names, "subject": [f"x:{one}" for one in subject]})
    return table.assign(
        repeat="0",
        fold=fold.astype(str),
        split="test",
        label=label,
        subject_source="given",
        score_a=1 - score,
        score_b=score,
    )


def features_of(table: pd.DataFrame, gain_db: float) -> pd.DataFrame:
    """Recordings whose level tells the label by so many dB, and their tilt nothing."""
    rng = np.random.default_rng(1)
    level = rng.normal(0, 1, len(table)) + gain_db * (table["label"] == "b")
    return pd.DataFrame({"level_db": level.to_numpy(), "tilt": rng.normal(size=len(table))}, index=table["clip"])


def value(found: pd.DataFrame, division: str, predictor: str) -> pd.Series:
    rows = found[(found["division"] == division) & (found["predictor"] == predictor) & (found["metric"] == "uar")]
    return rows.iloc[0]


def ladder(
    skill_by_clip: float, skill_by_subject: float, gain_db: float = 0.0, known: Leakage = CLEAN
) -> tuple[dict[str, Rung], pd.DataFrame]:
    tables = {BY_SUBJECT: pooled("subject", skill_by_subject, seed=2), BY_CLIP: pooled("clip", skill_by_clip)}
    stamps = {BY_SUBJECT: known, BY_CLIP: Leakage("LEAKY", [])}
    rungs = {
        name: Rung(name, Path(), table, table[:0], table["label"], stamps[name], None) for name, table in tables.items()
    }
    return rungs, leakage.results(rungs, features_of(tables[BY_CLIP], gain_db))


def test_identity_alone_knows_all_by_clip_and_nothing_by_subject() -> None:
    _, found = ladder(2.0, 0.0)
    assert value(found, BY_CLIP, IDENTITY)["value"] == 1
    assert value(found, BY_SUBJECT, IDENTITY)["value"] == pytest.approx(0.5)
    assert value(found, BY_SUBJECT, MAJORITY)["value"] == value(found, BY_CLIP, MAJORITY)["value"] == 0.5


def test_who_has_two_labels_is_scored_by_their_shares() -> None:
    table = pooled("clip", 0.0).assign(fold=lambda t: (t.index % N_CLIPS == 0).astype(int).astype(str))
    table.loc[table.index % N_CLIPS < 4, "label"] = "a"  # three of the nine that are not tested, of every infant
    scores = leakage.identity_only(table).query("fold == '1' and subject == 'x:1'")[["score_a", "score_b"]]
    assert scores.to_numpy().tolist() == [pytest.approx([3 / 9, 6 / 9])]


@pytest.mark.slow
def test_the_recorder_is_found_where_labels_go_with_it() -> None:
    _, apart = ladder(0.0, 0.0, gain_db=6)
    assert value(apart, BY_SUBJECT, RECORDER)["low"] > 0.75
    _, alike = ladder(0.0, 0.0, gain_db=0)
    assert value(alike, BY_SUBJECT, RECORDER)["value"] < 0.6


@pytest.mark.parametrize(("gain_db", "low", "high"), [(9.0, 0.95, 1.0), (0.0, 0.3, 0.65)])
def test_the_recorder_is_found_in_few_clips_and_not_where_it_is_none(gain_db, low, high) -> None:
    few = pooled("subject", 0.0).groupby("subject").head(2)[:40].reset_index(drop=True)
    found = leakage.recorder_only(few, features_of(few, gain_db))
    assert low <= ((found["score_b"] > 0.5) == (few["label"] == "b")).mean() <= high


@pytest.mark.slow
def test_verdict_names_what_holds() -> None:
    rungs, found = ladder(3.0, 0.0)
    text = leakage.verdict(rungs, found)
    above, gone = (
        value(found, BY_CLIP, MODEL)["value"] - 0.5,
        (value(found, BY_CLIP, MODEL)["value"] - value(found, BY_SUBJECT, MODEL)["value"]),
    )
    assert f"By clip, UAR is {above:.3f} above chance (0.500). By clip less by subject, it is {gone:.3f} [" in text
    assert "knowledge of who cries, which by subject is not there." in text
    assert "no evidence of more than chance" in text and "no evidence that labels and recorders go together" in text
    rungs, found = ladder(3.0, 3.0, gain_db=6)
    text = leakage.verdict(rungs, found)
    assert "]: no evidence of knowledge of who cries. By subject, " in text and "]: more than chance." in text
    assert "]: labels and recorders go together." in text


def test_verdict_of_rungs_in_another_order_claims_no_share_of_what_is_not_there() -> None:
    text = leakage.verdict(*ladder(-1.0, 3.0))
    assert re.search(
        r"By clip, UAR is 0\.\d+ below chance \(0\.500\)\. By clip less by subject, it is -0\.\d+ \[", text
    )
    assert "]: no knowledge of who cries. By subject, " in text and "of that" not in text
    assert "]: less than chance." in leakage.verdict(*ladder(0.0, -3.0))


def test_verdict_of_too_few_subjects_says_that_there_is_no_interval() -> None:
    rungs, _ = ladder(3.0, 3.0)
    few = {name: replace(rung, table=of_few(rung.table)) for name, rung in rungs.items()}
    text = leakage.verdict(few, leakage.results(few, features_of(few[BY_CLIP].table, 0.0)))
    assert text.count(": there is no interval, so this says nothing about other subjects.") == 3
    assert "chance." not in text and "together" not in text


def of_few(table: pd.DataFrame) -> pd.DataFrame:
    """The clips of four infants of each label."""
    return table[table["subject"].isin([f"x:{number}" for number in range(8)])].reset_index(drop=True)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("n_unknown", "drawn"), [(24, "recordings"), (3, "subjects and recordings"), (0, "subjects")])
def test_what_stands_for_unknown_subjects_is_called_so(n_unknown, drawn) -> None:
    rungs, _ = ladder(3.0, 0.0)
    names = [f"x:{number}" for number in range(n_unknown)]
    unknown = {name: replace(rung, table=without_subjects(rung.table, names)) for name, rung in rungs.items()}
    found = leakage.results(unknown, features_of(unknown[BY_CLIP].table, 0.0))
    assert {row[2] for row in leakage.as_rows(found)[1:]} == {"240/?" if n_unknown else "240/24"}
    texts = leakage.reading(unknown[BY_SUBJECT].table), leakage.verdict(unknown, found)
    assert f"95 % intervals over {drawn}." in texts[0]
    assert (f"subjects of {10 * n_unknown} of 240 clips are not known" in texts[0]) == bool(n_unknown)
    assert all(("who cries" in text) == (drawn != "recordings") for text in texts)


def without_subjects(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The same where nobody told who some infants are: each recording is of its own."""
    unknown = table["subject"].isin(names)
    return table.assign(
        subject=table["subject"].mask(unknown, "x:" + table["recording"]),
        subject_source=table["subject_source"].mask(unknown, "unknown"),
    )


def test_the_majority_row_is_a_constant_without_width() -> None:
    _, found = ladder(3.0, 0.0)
    assert value(found, BY_CLIP, MAJORITY)[["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("status", ["LEAKY", "UNKNOWN LINEAGE", "SUBJECTS UNKNOWN"])
def test_verdict_is_worded_by_the_stamp_of_the_first_rung(status) -> None:
    overlap = Overlap("pretrain", "ward", 5, 0, 0, 0, 24, 240)
    found = {
        "LEAKY": Leakage(status, [overlap]),
        "UNKNOWN LINEAGE": Leakage(status, [], unknown="published weights"),
        "SUBJECTS UNKNOWN": Leakage(status, [], unknown_subjects="one subject is not known"),
    }[status]
    rungs, scores = ladder(3.0, 3.0, known=found)
    text = leakage.verdict(rungs, scores)
    assert f"{status} ({found.reason})" in text and ("]: more than chance." in text) == (status != "LEAKY")
    assert ("cannot be told" in text) == ("By clip less by subject" not in text) == (status == "LEAKY")
    assert value(scores, BY_SUBJECT, MODEL)["lineage"] == status and not value(scores, BY_SUBJECT, IDENTITY)["lineage"]
    assert [row[-1] for row in leakage.as_rows(scores)] == ["lineage", status, "", "", "", "LEAKY", "", "", ""]
    (axes,) = leakage.draw(scores, 0.5).axes
    assert f"by subject, model, {status}" in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.slow
def test_copies_are_of_their_clip_and_none_equals_it(stage, tmp_path) -> None:
    from cry_lightning.studies.engine import StageConfig, open_study

    data: CryDataModule = open_study(StageConfig(str(stage()))).data
    manifest = leakage.write_copies(data, 2, tmp_path / "copies")
    rows = pd.read_csv(manifest)
    assert len(rows) == 3 * len(data.clips) and rows["label"].value_counts().nunique() == 1
    sounds = (
        leakage.soundfile.read(manifest.parent / rows["path"][0])[0],
        *(leakage.soundfile.read(manifest.parent / rows["path"][copy])[0] for copy in (1, 2)),
    )
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(sounds[one], sounds[other])[0, 1]
        assert 0.9 < correlation < 0.9999
    before = manifest.stat().st_mtime_ns
    leakage.write_copies(data, 2, tmp_path / "copies")
    assert manifest.stat().st_mtime_ns == before
    fewer = pd.read_csv(leakage.write_copies(data, 1, tmp_path / "copies"))  # another study, not the old copies
    assert len(fewer) == 2 * len(data.clips)


def test_features_of_the_recorder_are_numbers(stage) -> None:
    from cry_lightning.studies.engine import StageConfig, open_study

    data: CryDataModule = open_study(StageConfig(str(stage()))).data
    found = leakage.recorder_features(data)
    assert list(found.index) == [clip.name for clip in data.clips] and np.isfinite(found.to_numpy(float)).all()
    low, high = (found.loc[[name.startswith(kind) for name in found.index], "tilt"] for kind in ("low", "high"))
    assert low.mean() < high.mean()  # an octave apart


@pytest.mark.slow
def test_the_whole_ladder(stage, tmp_path, capsys) -> None:
    args = ["--config", str(stage()), "--folds", "2", "--copies", "1", "--out", str(tmp_path / "ladder")]
    main(args)
    printed = capsys.readouterr().out
    found = pd.read_csv(tmp_path / "ladder/leakage.csv")
    assert found["division"].unique().tolist() == ["by subject", "by clip", "augmented, then by clip"]
    assert (found.loc[found["division"] == "augmented, then by clip", "clips"] == 2 * 96).all()
    stamps = found[found["predictor"] == "model"].groupby("division")["lineage"].unique().map(list)
    assert stamps.to_dict() == {"by subject": ["CLEAN"], "by clip": ["LEAKY"], "augmented, then by clip": ["LEAKY"]}
    assert (tmp_path / "ladder/leakage.png").exists() and "By clip, UAR is" in printed
    assert "| by subject | model |" in (tmp_path / "ladder/leakage.md").read_text()
    page = (tmp_path / "ladder/report.html").read_text()
    assert "<svg" in page and "By clip, UAR is" in page and "python -m cry_lightning leakage --config" in page
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "ladder").rglob("predictions.csv")}
    main(args)
    folds = [path for path in written if "fold" in str(path)]
    assert all(path.stat().st_mtime_ns == written[path] for path in folds)


@pytest.mark.slow
def test_weights_that_know_the_tested_infants_stamp_every_rung(stage, tmp_path, capsys) -> None:
    """A recipe that starts from a stage on the same infants: by subject, nothing remains that could be told."""
    from cry_lightning.cli.stage import main as fit

    fit(["fit", "--config", str(stage()), "--name=before", f"--runs={tmp_path}"])
    weights = next(tmp_path.rglob("before/best.ckpt"))
    given = [f"--model.init_args.weights={weights}", "--folds", "2", "--copies", "0", "--out", str(tmp_path / "ladder")]
    main(["--config", str(stage()), *given])
    assert "By clip less by subject" not in capsys.readouterr().out
    model = pd.read_csv(tmp_path / "ladder/leakage.csv").query("predictor == 'model'")
    assert set(model["lineage"]) == {"LEAKY"} and model["division"].nunique() == 2
    for name in ("leakage.md", "report.html"):
        told = (tmp_path / "ladder" / name).read_text()
        assert "is LEAKY (" in told and "stage before on" in told and "by subject" in told


def test_what_makes_no_sense_is_refused(stage, tones, tmp_path) -> None:
    with pytest.raises(UserError, match="--copies -1"):
        main(["--config", str(stage()), "--copies", "-1"])
    rows = pd.read_csv(tones)
    rows.assign(path=[str(tones.parent / path) for path in rows["path"]], subject=rows.index).to_csv(
        tmp_path / "lone.csv", index=False
    )
    with pytest.raises(UserError, match="every subject has one clip"):
        main(["--config", str(stage()), f"--data.corpus.init_args.root={tmp_path / 'lone.csv'}"])

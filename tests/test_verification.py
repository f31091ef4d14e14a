"""`verify`: equal error rates over pairs of sessions, their intervals over subjects, and what is refused."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import cry_lightning as cry
from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.evaluation.verification import Sessions, error_rates, pairs, read_sessions, verify


def sessions(n_subjects: int, strength: float, seed: int = 0, n_sessions: int = 2) -> Sessions:
    """Normal embeddings (16) with an effect of their subject."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n_subjects), n_sessions)
    embeddings = strength * rng.standard_normal((n_subjects, 16))[subject] + rng.standard_normal((len(subject), 16))
    return Sessions(
        embeddings, np.array([f"s{each:04}" for each in subject]), np.array([f"r{i}" for i in range(len(subject))])
    )


def rates(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Those of pairs in any order, each counted once."""
    order = np.argsort(scores, kind="stable")
    return error_rates(scores[order], same[order], np.ones(len(same)))


def write(path: Path, embeddings: np.ndarray, **columns) -> Path:
    """A file as `embed` writes it."""
    with h5py.File(path, "w") as file:
        file["embeddings"] = embeddings
        for name, values in columns.items():
            text = h5py.string_dtype() if isinstance(values[0], str) else None
            file.create_dataset(name, data=values, dtype=text)
        file.attrs["lineage"], file.attrs["lineage_reason"] = "CLEAN", ""
    return path


@pytest.fixture
def written(tmp_path) -> Path:
    """Twelve subjects with two recordings of two windows each."""
    found = sessions(12, 2.0)
    windows = np.repeat(found.embeddings, 2, axis=0)
    columns = {"subject": np.repeat(found.subjects, 2).tolist(), "recording": np.repeat(found.sessions, 2).tolist()}
    return write(tmp_path / "e.h5", windows, **columns, subject_source=["rule"] * 48, period=["B", "B", "D", "D"] * 12)


@pytest.mark.parametrize("strength", [0.0, 0.7, 1.5])
def test_rates_are_those_of_a_search_over_all_thresholds(strength):
    scores, same, _, _ = pairs(sessions(30, strength))
    rate, area = rates(scores, same)
    missed = np.array([(scores[same] <= at).mean() for at in np.sort(scores)])
    accepted = np.array([(scores[~same] > at).mean() for at in np.sort(scores)])
    best = np.abs(missed - accepted).argmin()
    assert rate == pytest.approx((missed[best] + accepted[best]) / 2, abs=1 / same.sum())
    assert area == pytest.approx(roc_auc_score(same, scores), abs=1e-9)


def test_pairs_of_one_score_are_accepted_together():
    rng = np.random.default_rng(0)
    same, scores = rng.random(2000) < 0.3, rng.integers(0, 3, 2000).astype(float)
    assert rates(scores, same)[1] == pytest.approx(roc_auc_score(same, scores), abs=1e-9)
    assert rates(np.zeros(2000), same) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("alike", [0.0, 3.0])
def test_embeddings_that_are_all_alike_are_at_chance(alike):
    found = sessions(20, 1.0)
    table = verify(found._replace(embeddings=np.full((40, 16), alike) + 1e-9 * found.embeddings * alike))
    assert table["value"].tolist() == pytest.approx([0.5, 0.5])


def test_who_has_many_sessions_does_not_draw_the_centre_to_itself():
    def of(many: int, seed: int) -> Sessions:
        rng = np.random.default_rng(seed)
        subject = np.repeat(np.arange(20), [many, *[2] * 19])
        embeddings = 0.7 * rng.standard_normal((20, 16))[subject] + rng.standard_normal((len(subject), 16))
        names = np.array([f"r{i}" for i in range(len(subject))])
        return Sessions(embeddings, np.array([f"s{each:02}" for each in subject]), names)

    few, many = (np.mean([rates(*pairs(of(n, seed))[:2])[1] for seed in range(40)]) for n in (2, 30))
    assert many == pytest.approx(few, abs=0.04)  # 0.14 less, were it drawn


def test_what_all_sessions_share_does_not_matter():
    found = sessions(20, 1.0)
    shifted = found._replace(embeddings=found.embeddings + 100.0)
    np.testing.assert_allclose(pairs(found)[0], pairs(shifted)[0], atol=1e-9)


def test_sessions_of_one_name_are_not_compared():
    found = sessions(6, 1.0)._replace(sessions=np.array(["B", "D"] * 6))
    _, same, _, _ = pairs(found)
    assert same.sum() == 6 and (~same).sum() == 30  # each B with each D


def test_no_skill_has_chance_in_its_interval_and_full_skill_no_interval_of_zero_width():
    none, full = verify(sessions(40, 0.0)).set_index("metric"), verify(sessions(40, 50.0)).set_index("metric")
    assert (none["low"] < 0.5).all() and (none["high"] > 0.5).all()
    assert full.loc["eer", "value"] == 0 and full.loc["eer", "high"] > 0 and full.loc["auc", "low"] < 1
    assert none["n_same"].tolist() == [40, 40] and none["n_different"].tolist() == [80 * 78 / 2] * 2


def test_four_subjects_have_no_interval():
    assert verify(sessions(4, 1.0))[["low", "high"]].isna().all(axis=None)


def test_subjects_of_one_session_are_counted_and_have_no_pairs_of_their_own():
    found = Sessions(*(part[3:] for part in sessions(7, 1.0)))  # the first has none left, the second one
    counts = verify(found)[["n_same", "n_different", "n_subjects", "n_paired"]]
    assert counts.iloc[0].tolist() == [5, 11 * 10 / 2 - 5, 6, 5]


@pytest.mark.slow
@pytest.mark.parametrize(("n_subjects", "strength"), [(10, 0.7), (20, 0.0), (40, 0.7), (40, 0.0)])
def test_intervals_hold_the_truth(n_subjects, strength):
    scores, same, _, _ = pairs(sessions(1500, strength, seed=1))
    truth = rates(scores, same)
    found = [verify(sessions(n_subjects, strength, seed)) for seed in range(2, 102)]
    held = [(table["low"] <= truth) & (truth <= table["high"]) for table in found]
    assert np.mean(held, axis=0).min() >= 0.9  # of 0.95, less what 100 tests may miss by chance


def test_command_prints_and_writes_a_row_for_each_file(written, tmp_path, capsys):
    command("verify", [str(written), "--session", "period", "--out", str(tmp_path / "v.csv")])
    printed = capsys.readouterr().out
    assert "equal error rate" in printed and "12" in printed
    table = pd.read_csv(tmp_path / "v.csv")
    assert table["metric"].tolist() == ["eer", "auc"] and (table["n_same"] == 12).all()
    by_recording = cry.verify([written])
    assert by_recording["value"].iloc[1] == pytest.approx(table["value"].iloc[1], abs=0.05)


def test_windows_are_averaged_at_length_one(written):
    found = read_sessions(written, "recording")
    assert len(found.embeddings) == 24
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1.0)  # both windows are alike


def test_clips_of_unknown_subjects_are_left_out(tmp_path, caplog):
    found = sessions(12, 1.0)
    columns = {"subject": found.subjects.tolist(), "recording": found.sessions.tolist()}
    path = write(tmp_path / "e.h5", found.embeddings, **columns, subject_source=["unknown"] * 4 + ["rule"] * 20)
    assert (
        len(set(read_sessions(path, "recording").subjects)) == 10 and "4 clips without a known subject" in caplog.text
    )
    path = write(tmp_path / "u.h5", found.embeddings, **columns, subject_source=["unknown"] * 24)
    with pytest.raises(UserError, match="no clip has a known subject"):
        read_sessions(path, "recording")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"not HDF5"), "text, and no embeddings; give a file that `embed` wrote"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read as HDF5"),
        (lambda path: h5py.File(path, "w").close(), "is no file of"),
        (lambda path: write(path, np.ones((2, 3)), start_s=[0.0, 1.0], subject=["a", "b"]), "has no column"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(written, change, message):
    change(written)
    with pytest.raises(UserError, match=message) as error:
        command("verify", [str(written)])
    assert str(error.value).count(str(written)) >= 1 and str(error.value).startswith(str(written))
    assert "\n" not in str(error.value) and ("cannot be read" in message) == ("cannot be read" in str(error.value))


def test_embeddings_that_are_no_numbers_are_refused(written, tmp_path):
    with h5py.File(written, "a") as file:
        file["embeddings"][3] = np.nan
    with pytest.raises(UserError, match=r"e\.h5: 1 of 48 embeddings contain NaN or inf"):
        command("verify", [str(written)])
    columns = {"subject": ["a"] * 3, "subject_source": ["rule"] * 3, "recording": ["r"] * 3}
    for embeddings, message in ((np.ones(3), r"shape \(3,\)"), (np.ones((2, 4)), "different numbers of rows")):
        with pytest.raises(UserError, match=message):
            command("verify", [str(write(tmp_path / "odd.h5", embeddings, **columns))])


def test_what_is_there_is_not_replaced(written):
    before = written.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        command("verify", [str(written), "--out", str(written)])
    assert written.read_bytes() == before


def test_sessions_that_cannot_be_compared_are_refused(written):
    with pytest.raises(UserError, match=r"has no column site; there are .*period"):
        command("verify", [str(written), "--session", "site"])
    with pytest.raises(UserError, match="no subject has two sessions"):
        command("verify", [str(written), "--session", "subject"])
    with h5py.File(written, "a") as file:
        file["subject"][:] = "s"
    with pytest.raises(UserError, match="one subject alone"):
        command("verify", [str(written)])

"""JSON beside runs, corpora and caches that is cut, emptied, binary or something else: one line, or made anew."""

import json

import numpy as np
import pytest
import soundfile
from cache_fakes import make_cache
from made import write_run
from test_evaluation import by_hand

from cry_lightning.__main__ import run as run_command
from cry_lightning.acquire import command, inputs, settings
from cry_lightning.console import UserError
from cry_lightning.corpora.levels import LevelIndex
from cry_lightning.data.inventory import INDEX_NAME
from cry_lightning.evaluation.fuse import fuse
from cry_lightning.evaluation.run import read_run
from cry_lightning.studies import engine, tune

RATE = 16_000
DAMAGED = {
    "empty": b"",
    "cut": b'{"a": [1, 2',
    "binary": bytes(range(256)),
    "null": b"null",
    "number": b"3",
    "text": b'"text"',
    "list": b'[{"a": 1}]',
    "object of another kind": b'{"a": 1, "folds": 3, "stages": {}, "units": 5, "learned": null}',
    "folds of nothing": b'{"folds": [1, null]}',
    "deep": b"[" * 100_000,
    "zeros": bytes(500),
}
damaged = pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)


@pytest.mark.sampled(3)
@damaged
def test_lineage_is_named_in_one_line(tmp_path, no_figures, content):
    run = write_run(tmp_path / "run", by_hand(), trained_on="else")
    other = write_run(tmp_path / "other", by_hand(), trained_on="else")
    (run / "lineage.json").write_bytes(content)
    for command_line in (
        lambda: run_command("evaluate", [str(run)]),
        lambda: run_command("evaluate", ["--pool", str(other), str(run)]),
        lambda: fuse([str(other), str(run)], tmp_path / "fused"),
    ):
        with pytest.raises(UserError, match=r"run/lineage\.json: .*; run the test that writes it again") as error:
            command_line()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"listed": 271, "left_out": {"x": -3}}, "'left_out' is not"),
        ({"listed": 271, "left_out": {"x": True}}, "'left_out' is not"),
        ({"listed": 2, "left_out": {"x": 3}}, "'left_out' counts more than 'listed'"),
        ({"listed": -1}, "'listed' is not"),
        ({"not_listed": {"clips": -1}}, "'not_listed' is not"),
    ],
)
def test_lineage_with_counts_that_cannot_be(tmp_path, wrong, named):
    run = write_run(tmp_path / "run", by_hand(), trained_on="else")
    lineage = json.loads((run / "lineage.json").read_text())
    (run / "lineage.json").write_text(json.dumps(lineage | wrong))
    with pytest.raises(UserError, match=rf"lineage\.json: {named}.*run the test that writes it again"):
        read_run(str(run), "test")


@pytest.mark.parametrize("test_clips", [{"a": 3}, {"a": None}, {"a": ["b"]}, []])
def test_lineage_with_sounds_of_another_kind(tmp_path, no_figures, test_clips):
    run = write_run(tmp_path / "run", by_hand(), trained_on="else")
    lineage = json.loads((run / "lineage.json").read_text())
    (run / "lineage.json").write_text(json.dumps(lineage | {"test_clips": test_clips}))
    with pytest.raises(UserError, match=r"lineage\.json: 'test_clips' is not"):
        run_command("evaluate", [str(run)])


@pytest.mark.sampled(2)
@damaged
def test_what_a_fusion_is_made_of(tmp_path, content):
    runs = [str(write_run(tmp_path / name, by_hand(), trained_on="else")) for name in "ab"]
    fuse(runs, tmp_path / "fused")
    (tmp_path / "fused/fusion.json").write_bytes(content)
    with pytest.raises(UserError, match=r"holds another fusion, see its fusion\.json"):
        fuse(runs, tmp_path / "fused")


@damaged
def test_studies_store(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(UserError, match="study") as error:
        engine.is_begun(tmp_path / "study.json", {"seed": 1})
    assert "\n" not in str(error.value)
    (tmp_path / engine.MARK).write_bytes(content)
    assert not engine.is_finished(tmp_path, {"seed": 1}, files=())


@damaged
def test_journal_of_a_search(tmp_path, content):
    """Half a last line is what a killed write leaves; whole lines of something else are damage."""
    goal = tune.Goal("val/uar", "max")
    tune.open_search(tmp_path, goal).add_trial(tune.finished({}, {}, 0.5, 0, ""))
    whole = (tmp_path / tune.JOURNAL).read_bytes()
    (tmp_path / tune.JOURNAL).write_bytes(whole + content)
    if b"\n" not in content:
        assert [trial.value for trial in tune.open_search(tmp_path, goal).trials] == [0.5]
    (tmp_path / tune.JOURNAL).write_bytes(content + b"\n" + whole)
    with pytest.raises(UserError, match=r"journal\.log: damaged .*remove it") as error:
        tune.open_search(tmp_path, goal)
    assert "\n" not in str(error.value)


@damaged
def test_indices_are_made_anew(tmp_path, content):
    path = tmp_path / "audio.wav"
    soundfile.write(path, np.full(2 * RATE, 0.5), RATE)
    spans = [(0.0, 1.0), (1.0, 1.0)]
    with LevelIndex(tmp_path / "levels.json") as index:
        levels = index.of(path, spans)
    written = json.loads((tmp_path / "levels.json").read_text())
    for wrong in (content, *(json.dumps(dict.fromkeys(written, value)).encode() for value in (3, [1.0], ["a", "b"]))):
        (tmp_path / "levels.json").write_bytes(wrong)
        with LevelIndex(tmp_path / "levels.json") as index:
            assert index.of(path, spans) == levels
        assert json.loads((tmp_path / "levels.json").read_text())[next(iter(written))] == levels

    key = make_cache(tmp_path, n=3).key
    index_path = tmp_path / "cache" / INDEX_NAME
    known = json.loads(index_path.read_text())
    unlike = {name: [*state, "text"] for name, (*state, _) in known.items()}
    for wrong in (content, json.dumps(unlike).encode()):
        index_path.write_bytes(wrong)
        assert make_cache(tmp_path, n=3).key == key
        assert json.loads(index_path.read_text()) == known


@damaged
def test_acquire_cuts_again_what_has_no_record(tmp_path, content):
    time = np.arange(3 * RATE) / RATE
    cry = np.sign(np.sin(2 * np.pi * 450 * time)) * 0.3 * (np.abs(time - 1.5) < 0.5)
    soundfile.write(tmp_path / "a.wav", cry + 1e-4 * np.random.default_rng(0).standard_normal(len(cry)), RATE)
    found = inputs.cut(tmp_path, "a.wav", tmp_path / "out", settings.Settings())
    assert found["units"]
    assert inputs.done(tmp_path, "a.wav", tmp_path / "out", settings.Settings()) == found
    record = next((tmp_path / "out").rglob(inputs.RECORD))
    unlike = [found | {"units": "abc"}, found | {"units": [{"path": 3}]}, found | {"duration_s": "long"}]
    for wrong in (content, *(json.dumps(one).encode() for one in unlike)):
        record.write_bytes(wrong)
        assert inputs.done(tmp_path, "a.wav", tmp_path / "out", settings.Settings()) is None

    (tmp_path / "out" / command.PROVENANCE).write_bytes(content)
    with pytest.raises(UserError, match=r"out.*--overwrite"):
        command.begin(tmp_path / "out", {"in": "a"}, overwrite=False)
    command.begin(tmp_path / "out", {"in": "a"}, overwrite=True)
    assert json.loads((tmp_path / "out" / command.PROVENANCE).read_text()) == {"in": "a"}

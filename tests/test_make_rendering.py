"""Synthetic corpora are rendered while the first stage of `make` imports its libraries."""

import subprocess
import time
from pathlib import Path

import pytest

from cry_lightning.corpora import SyntheticCries, SyntheticWords
from cry_lightning.make.chain import MakeStage
from cry_lightning.make.rendering import FOLDER, rendered_meanwhile

CONFIG = """
data:
  corpus: {class_path: cry_lightning.corpora.SyntheticWords, init_args: {n_speakers: 2, n_words: 2, n_takes: 1}}
  probe:
    class_path: cry_lightning.data.datamodule.CryDataModule
    init_args:
      corpus: {class_path: cry_lightning.corpora.SyntheticCries, init_args: {n_infants: 2, n_cries: 2}}
"""


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("simclr.yaml")
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture
def refused(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_every_corpus_of_a_config_is_rendered_as_by_the_stage_itself(config, tmp_path):
    with rendered_meanwhile([MakeStage("words", "simclr", config)]):
        deadline = time.monotonic() + 60
        while len(list(FOLDER.glob("synthetic-*/manifest.csv"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    for corpus in (SyntheticWords(2, 2, 1, folder="own"), SyntheticCries(2, 2, folder="own")):
        corpus.prepare()
        rendered = FOLDER / corpus.root.parent.name
        files = [path for path in sorted(corpus.root.parent.rglob("*")) if path.is_file()]
        assert len(files) == 5
        for path in files:
            assert (rendered / path.relative_to(corpus.root.parent)).read_bytes() == path.read_bytes()


def test_the_process_ends_with_what_it_was_started_for(config):
    config.write_text(CONFIG.replace("n_takes: 1", "n_takes: 100000"), encoding="utf-8")
    begun = time.monotonic()
    with pytest.raises(KeyError), rendered_meanwhile([MakeStage("words", "simclr", config)]):
        raise KeyError
    assert time.monotonic() - begun < 30
    assert not list(FOLDER.glob("synthetic-*/manifest.csv"))


def test_no_process_where_it_is_rendered_already(config, refused):
    FOLDER.mkdir(parents=True)
    with rendered_meanwhile([MakeStage("words", "simclr", config)]):
        pass


@pytest.mark.parametrize("stage", [{"data": (Path("own.yaml"),)}, {"arguments": ("--data.corpus.init_args.seed=1",)}])
def test_no_process_where_other_data_are_chosen(config, refused, stage):
    with rendered_meanwhile([MakeStage("words", "simclr", config, **stage)]):
        pass

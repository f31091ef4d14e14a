"""What a corpus had to do without is told by the test and its reports, however often its cache was built before."""

import os
from dataclasses import replace

import numpy as np
import soundfile
import yaml
from made import RATE, stage_config

from cry_lightning.__main__ import run as command
from cry_lightning.cli import stage as cli
from cry_lightning.lineage import UNKNOWN, FoldedLineage, parse, union

SAID = "3 of 99 recordings were left out: 1 missing, 1 empty, 1 silent."


def test_what_was_left_out_is_in_the_test_and_its_reports(tones, tmp_path, no_figures, capsys):
    folder = tmp_path / "ward"
    folder.mkdir()
    for path in tones.parent.glob("*.wav"):
        os.link(path, folder / path.name)
    (folder / "empty.wav").touch()
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    rows = [f"{name}.wav,low,baby00,site0" for name in ("gone", "empty", "silent")]
    (folder / "manifest.csv").write_text("\n".join([*tones.read_text().split(), *rows]))
    config = tmp_path / "stage.yaml"
    content = stage_config(folder / "manifest.csv", tmp_path)
    content["trainer"] |= {"limit_train_batches": 1, "max_epochs": 1}
    config.write_text(yaml.safe_dump(content))
    cli.main(["fit", "--config", str(config)])  # which builds the cache
    cli.main(["test", "--config", str(config)])
    run = tmp_path / "runs/tones/pretrain"
    assert SAID in capsys.readouterr().out and SAID in (run / "card.md").read_text()
    command("evaluate", [str(run)])
    assert SAID in capsys.readouterr().out
    assert all(SAID in (run / name).read_text() for name in ("report.md", "report.html"))


def test_what_was_left_out_is_told_once_for_all_folds_and_fused_runs():
    one = replace(
        UNKNOWN,
        listed=20,
        left_out={"unreadable": 1},
        recordings=5,
        recordings_left_out={"empty": 2},
        not_listed={"recordings with an odd name": 2, "clips, all of whose windows are quiet": 1},
    )
    said = (
        "2 of 5 recordings were left out: 2 empty."
        " 1 of 20 clips was left out: 1 unreadable. The corpus does not list 2 recordings with an odd"
        " name; 1 clip, all of whose windows are quiet."
    )
    assert parse(one.as_dict()).left_out_in_words == union([UNKNOWN, one]).left_out_in_words == said
    assert FoldedLineage({("0", "0"): one, ("0", "1"): one}).left_out_in_words == said
    assert not replace(UNKNOWN, listed=20).left_out_in_words

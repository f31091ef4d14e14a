"""What a person reads while a command runs."""

import os
import subprocess
import sys

import pytest
from made import REPO

from cry_lightning.console import clip_in_words
from cry_lightning.studies.engine import side_by_side


@pytest.mark.parametrize("is_terminal", [True, False], ids=["in a terminal", "in a log file"])
def test_a_bar_in_a_terminal_is_lines_in_a_log_file(is_terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert [*side_by_side(abs, [-1, 2], jobs=1, desc="cross-validate", unit="fold")] == [1, 2]
    told = capsys.readouterr().err
    assert ("100%" in told) == is_terminal
    assert (told.splitlines()[-1] == "cross-validate: fold 2 of 2 done, 0 s since the start") != is_terminal
    assert [*side_by_side(abs, [-1, 2], jobs=1)] == [1, 2] and not capsys.readouterr().err


@pytest.mark.parametrize("module", ["cry_lightning", "cry_lightning.make.command"])
def test_a_folder_that_was_removed_under_a_command_is_told(tmp_path, module):
    script = f"mkdir here; cd here; rmdir ../here; {sys.executable} -m {module} evaluate"
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    told = "error: the current folder is not there (No such file or directory); go to another, by cd\n"
    assert done.returncode == 2 and done.stderr == f"cry_lightning: {told}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b.wav#2.000-3.000", "a/b.wav, 2.0 to 5.0 s"),
        ("a.wav#0.100-0.225", "a.wav, 0.1 to 0.325 s"),
        ("a#1.wav#2.500-end", "a#1.wav, 2.5 s to the end"),
        ("a.wav#0.000-end", "a.wav"),
        ("a.wav", "a.wav"),
        ("take #7-end", "take #7-end"),
    ],
)
def test_a_clip_is_called_by_when_it_begins_and_ends(name, said):
    assert clip_in_words(name) == said

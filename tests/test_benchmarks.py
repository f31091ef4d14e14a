"""The benchmarks run, and notice what has become slower."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from made import REPO

FOLDER = REPO / "benchmarks"


@pytest.fixture
def everything(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("everything", FOLDER / "everything.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: object, **kwargs) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda script: script.stem)
def test_what_a_benchmark_takes_of_the_package_is_there(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cry_lightning"):
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), name


def test_a_ratio_that_falls_by_more_than_a_third_is_named(everything):
    before = [{"name": "a", "ratio": 6.0}, {"name": "b", "ratio": 3.0}, {"name": "gone", "ratio": 3.0}]
    now = [{"name": name, "peer": "x", "ratio": ratio} for name, ratio in (("a", 4.1), ("b", 1.9), ("new", 0.1))]
    before.append({"name": "c", "limit": "y", "share": 0.9})
    now.append({"name": "c", "limit": "y", "share": 0.5})
    assert everything.fallen(before, now) == [
        "b: 1.90 times as fast as x, in the table 3.00",
        "c: 0.50 of y, in the table 0.90",
    ]


def test_the_table_is_written_as_it_is_kept_and_says_what_it_lacks(everything):
    table = json.loads(everything.TABLE.read_text())
    assert everything.TABLE.with_suffix(".md").read_text() == everything.as_markdown(table)
    named = " ".join(row["name"] for row in table["rows"])
    of = {"decoding": "cache", "MFCC": "cache", "NT-Xent": "ntxent", "views": "views", "of Res8": "epoch"}
    assert all((part in named) != (script in table["left_out"]) for part, script in of.items())


@pytest.mark.slow
def test_no_ratio_has_fallen_by_more_than_a_third(everything):
    of = json.loads(everything.TABLE.read_text())["machine"]["processor"]
    if of != everything.machine()["processor"]:
        pytest.skip(f"the table is of another kind of processor: {of}")
    done = run(FOLDER / "everything.py", "--check", timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "no ratio fell" in done.stdout


@pytest.mark.slow
def test_the_script_for_gpus_runs_at_toy_size(tmp_path):
    file = tmp_path / "found.json"
    done = run(FOLDER / "gpu.py", "--device=cpu", "--toy", "--minutes=1", "--json", file, timeout=480)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    measured = {(row["network"], row["task"]) for row in found["steps"] if row["precision"] == "fp32"}
    assert {("CNN14", "supervised"), ("CNN14", "SimCLR")} <= measured
    assert all(row["clips_per_s"] > 0 and row["teraflops"] > 0 for row in found["steps"])
    assert {name for name, *_ in found["front_ends"]} == {"CNN14", "EfficientAT 0.1", "Res8"}


@pytest.mark.slow
def test_without_a_gpu_the_script_says_so_in_a_line():
    done = run("-c", f"import torch, sys, runpy; torch.cuda.is_available = lambda: False; sys.argv[1:] = "
               f"['--device=cuda']; sys.path.insert(0, {str(FOLDER)!r}); runpy.run_path({str(FOLDER / 'gpu.py')!r},"
               " run_name='__main__')")  # fmt: skip
    assert done.returncode == 2
    assert "no GPU is found by torch; --device cpu --toy shows that the script runs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_are_compared_with_one():
    done = run(FOLDER / "processes.py", "--epochs=1", timeout=480)
    assert done.returncode == 0, done.stderr[-2000:]
    *_, one, two = done.stdout.splitlines()
    assert one.startswith("1 processes: ") and one.endswith("efficiency 1.00")
    rates = [float(line.split()[2]) for line in (one, two)]
    assert float(two.rpartition(" ")[2]) == pytest.approx(rates[1] / rates[0] / 2, abs=0.01)


def test_cries_at_8_khz_reach_audioset_s_network_without_mirror_images_above_4_khz(tmp_path):
    spec = importlib.util.spec_from_file_location("zero_shot", FOLDER / "zero_shot.py")
    zero_shot = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(zero_shot)
    heard = []

    def network(waveforms):
        heard.append(waveforms)
        return torch.zeros(1, 527)

    noise = np.random.default_rng(0).normal(0, 0.1, 16_000) * np.hanning(16_000)
    soundfile.write(tmp_path / "a.wav", noise, 8000, subtype="FLOAT")
    zero_shot.scores(network, [tmp_path / "a.wav"], 8000)
    power = np.abs(np.fft.rfft(heard[0][0])) ** 2
    above = np.fft.rfftfreq(heard[0].shape[1], 1 / zero_shot.RATE) > 4100
    assert power[above].mean() < 1e-8 * power[~above].mean()

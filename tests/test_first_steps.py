"""What somebody new begins with: the notebook, the container, and the pages for developers and for a new corpus."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import numpy as np
import pytest
import soundfile
import yaml
from made import RATE, REPO, ward
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import cry_lightning

NOTEBOOK = json.loads((REPO / "docs/quickstart.ipynb").read_text())
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
DOCKERFILE = re.sub(r" \\\n *", " ", (REPO / "Dockerfile").read_text())


def instructions(name: str) -> list[str]:
    """What follows an instruction of the Dockerfile, each time."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (REPO / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def test_the_notebook_was_run_and_tells_nothing_of_the_machine():
    text = (REPO / "docs/quickstart.ipynb").read_text()
    assert len(text) < 300_000
    runs = [cell["execution_count"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert runs == list(range(1, len(runs) + 1))
    kinds = {output["output_type"] for cell in NOTEBOOK["cells"] for output in cell.get("outputs", [])}
    assert kinds == {"stream", "execute_result"}  # no error
    assert not re.findall(r"(?<![\w.])/(?:home|root|work|tmp|usr|Users)/", text)
    links = re.findall(r"\]\((?!http)([^)#]+)", "".join(text for cell in NOTEBOOK["cells"] for text in cell["source"]))
    assert links and all((REPO / "docs" / link).exists() for link in links)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """With shorter trainings, each cell as IPython would run it, in an empty folder."""
    shorter = [re.sub(r'"trainer.max_epochs": \d+', '"trainer.max_epochs": 1', cell) for cell in CELLS]
    assert shorter != CELLS
    env = os.environ | {"PYTHONPATH": str(REPO), "WANDB_MODE": "disabled"}
    script = "import json, sys\nhere = {}\nfor cell in json.loads(sys.argv[1]):\n    exec(cell, here)\n"
    script += "print(here['picture'].size, len(here['table']), len(here['model']))"
    given = [sys.executable, "-c", script, json.dumps(shorter)]
    done = subprocess.run(given, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=560)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\(\d+, \d+\) 2 4\n$", done.stdout)
    assert (tmp_path / "runs/synthetic-cries/finetune/report.html").exists()


def test_the_container_has_what_it_runs(tmp_path):
    patterns = [line for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for arguments in instructions("COPY"):
        *sources, target = [each for each in arguments.split() if not each.startswith("--")]
        for source in sources:
            assert any(fnmatch.fnmatch(source, pattern[1:]) for pattern in patterns), f"{source} is ignored"
            place = tmp_path / (source if target == "./" else target)
            (shutil.copytree if (REPO / source).is_dir() else shutil.copy)(REPO / source, place)
    given = [sys.executable, "-m", "cry_lightning", "fit", "--config", "configs/finetune.yaml", "--help"]
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MAKE"))}
    shown = subprocess.run(given, cwd=tmp_path, env=alone | {"PYTHONPATH": "."}, capture_output=True, text=True)
    assert shown.returncode == 0 and "Classifier" in shown.stdout, shown.stderr
    targets = json.loads(instructions("ENTRYPOINT")[0])[1:]
    assert "make install" in instructions("RUN")[-1]
    for target in ("install", *targets):
        planned = subprocess.run(["make", "-n", target], cwd=tmp_path, env=alone, capture_output=True, text=True)
        assert planned.returncode == 0, planned.stderr


def test_what_is_installed_takes_every_python_that_the_readme_names():
    """Of the pinned releases, as far as they are here: by their own word, the first 3.11 does."""
    pins = re.findall(r"^([\w.-]+)==([^\s#]+)", (REPO / "constraints.txt").read_text(), re.MULTILINE)
    here = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    found = [(here.get(canonicalize_name(name)), release) for name, release in pins]
    pinned = [one for one, release in found if one and one.version == release]
    assert len(pinned) > 50
    refusing = [one.name for one in pinned if "3.11.0" not in SpecifierSet(one.metadata["Requires-Python"] or "")]
    assert not refusing


def test_the_container_is_of_the_default_registry_and_not_root():
    (image,) = instructions("FROM")
    assert "/" not in image and "://" not in DOCKERFILE
    before, _, after = DOCKERFILE.partition("\nUSER cry\n")
    assert "useradd" in before and "make install" not in before and "apt-get" not in after and "USER" not in after


@pytest.mark.parametrize("fit", ["pad", "repeat", "crop"])
def test_the_developers_code_fits_short_recordings_as_predict(fit):
    namespace: dict = {}
    (code,) = blocks("developers.md", "python")
    exec(code, namespace)
    for n_samples, window in [(1, 8), (4, 9), (5, 9), (9, 9), (3, 20)]:
        sound = np.arange(1, n_samples + 1, dtype=np.float32)
        if fit == "crop" and n_samples < window:
            with pytest.raises(ValueError, match="shorter than a window"):
                namespace["fitted"](sound, window, fit)
        else:
            expected = cry_lightning.audio.fit_to_length(sound, window, fit)
            assert np.array_equal(namespace["fitted"](sound, window, fit), expected)


@pytest.mark.slow
def test_the_developers_code_decides_as_predict(pretrained, tones, tmp_path):
    """Of a model that was tested, on recordings of its corpus and on noise."""
    cry_lightning.test(pretrained.with_name("config.yaml"))
    (model,) = cry_lightning.export(pretrained, out=tmp_path / "app.onnx")
    namespace: dict = {}
    (code,) = blocks("developers.md", "python")
    exec(code, namespace)
    recordings = [soundfile.read(path, dtype="float32")[0] for path in sorted(tones.parent.glob("*_0[0-5]_*.wav"))]
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10
    predictor, compared = cry_lightning.load(pretrained), []
    for sound in [*recordings, noise, recordings[0][:1001]]:
        table = predictor(sound)
        known = (table["abstained"] != "unlike the training").to_list()  # of that the file says nothing
        found = namespace["answers"](str(model), sound)
        compared += [pair for *pair, at in zip(found, table["decision"], known, strict=True) if at]
    assert len(compared) > len(recordings) / 2
    assert [own for own, _ in compared] == [expected or None for _, expected in compared]
    assert len({own for own, _ in compared}) > 1  # not the same answer to all


def test_the_corpus_of_the_page_lists_the_folder_of_the_page(tmp_path):
    ward(tmp_path, n_infants=2)
    (tmp_path / "pain/notes.wav").write_bytes(b"")
    namespace: dict = {"__name__": "my_ward"}
    (code,), (config,) = blocks("new_corpus.md", "python"), blocks("new_corpus.md", "yaml")
    exec(code, namespace)
    assert yaml.safe_load(config)["corpus"]["class_path"] == "my_ward.WardFolder"
    clips = namespace["WardFolder"](tmp_path).clips(tmp_path / "cache")
    assert {(clip.label, clip.subject) for clip in clips} == {
        (label, f"ward:baby0{infant}") for label in ("pain", "hunger") for infant in (0, 1)
    }

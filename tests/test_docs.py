"""The documents: every command that they show, in its order, on synthetic data; their links; the site they form."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
import yaml
from made import RATE, REPO, ward

from cry_lightning.__main__ import COMMANDS as COMMAND_TABLE, main

NAV = re.findall(r"^  - .*: (\w+\.md)$", (REPO / "mkdocs.yml").read_text(), re.MULTILINE)
# In the order in which they run: make's commands, which the README has, leave what those of docs/stages.md leave.
PAGES = {name: (REPO / name).read_text() for name in [*(f"docs/{page}" for page in NAV), "README.md"]}
OTHERS = {name: (REPO / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md")}


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks in these languages."""
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(*languages: str) -> list[str]:
    """The commands in such blocks of all pages, each once, those on several lines as one."""
    shown = [block for text in PAGES.values() for block in blocks(text, *languages)]
    return list(dict.fromkeys(line for block in shown for line in re.sub(r" \\\n *", " ", block).splitlines()))


def spans(text: str) -> list[str]:
    """What stands between backticks, outside of code blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


COMMANDS = commands("bash")
CRY = [line for line in COMMANDS if line.startswith("python -m cry_lightning ")]
MAKE = [line for line in COMMANDS if line.startswith("make ")]
SPANS = [span for text in (*PAGES.values(), *OTHERS.values()) for span in spans(text)]


def shrink(path, change):
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder with the configs, reduced in size, in which commands can be run."""
    shutil.copytree(REPO / "configs", tmp_path / "configs")
    shutil.copy(REPO / "Makefile", tmp_path)
    small = {"words": {"n_speakers": 8, "n_words": 2, "n_takes": 2}, "cries": {"n_infants": 12, "n_cries": 4}}
    small["unlabelled"], small["unlabelled_cries"] = small["words"], small["cries"]
    for name, arguments in small.items():
        shrink(tmp_path / f"configs/data/{name}.yaml", lambda c, a=arguments: c["corpus"].update(init_args=a))
    for name in ("pretrain", "finetune", "simclr", "adapt"):
        shrink(tmp_path / f"configs/{name}.yaml", lambda c: c["trainer"].update(max_epochs=1, logger=None))
    shrink(tmp_path / "configs/few_labels.yaml", lambda c: c["trainer"].update(max_steps=2))
    probe = tmp_path / "configs/data/probe.yaml"
    shrink(probe, lambda c: c["init_args"]["corpus"].update(init_args=small["cries"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def synthetic_donateacry(folder):
    (folder / "hungry").mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10
    soundfile.write(
        folder / "hungry" / "0776b33b-c41a-4a2e-8b9c-f1c184be00c8-1437123838264-1.7-f-26-hu.wav", sound, RATE
    )
    return folder


def test_pages_show_commands():
    assert len(CRY) > 20 and len(MAKE) > 8
    assert set(CRY) | set(MAKE) == set(COMMANDS)


def test_every_command_and_config_that_is_named_exists():
    for command in [*CRY, *(line for line in commands("sh") if line.startswith("python -m cry_lightning "))]:
        name, *args = shlex.split(command)[3:]
        assert name in COMMAND_TABLE, command
        assert all((REPO / arg).exists() for arg in args if arg.startswith("configs/")), command


def test_commands_and_files_in_the_text_exist():
    targets = re.findall(r"^([a-z][a-z0-9 -]*):", (REPO / "Makefile").read_text(), re.MULTILINE)
    targets = {target for line in targets for target in line.split()}
    for span in SPANS:
        if found := re.match(r"(?:\.venv/bin/)?python -m cry_lightning ([a-z-]+)", span):
            assert found[1] in COMMAND_TABLE, span
        if found := re.match(r"make ([a-z0-9 -]+)", span):
            assert set(found[1].split()) <= targets, span
        if found := re.search(r"\b((?:configs|benchmarks|tests|docs)/[\w/.-]+\w)", span):
            example = re.search(r"ward|log_spectrogram|one_layer|time_arrow|studies/words", span)  # of a recipe
            assert example or (REPO / found[1]).exists(), span


@pytest.mark.slow
def test_every_command_runs_in_order(house):
    ward(house / "ward")
    for command in CRY:
        args = shlex.split(command.replace("--folds 3", "--folds 2").replace("--seeds 0 1", "--seeds 0"))[3:]
        args = [arg.replace("path/to/recordings", str(synthetic_donateacry(house / "recordings"))) for arg in args]
        args = [arg.replace("path/to/ward", str(house / "ward")) for arg in args]
        args = [arg.replace("path/to/videos", str(house / "cache/synthetic")) for arg in args]
        if args[0] == "download":  # what it would fetch lies here
            synthetic_donateacry(house / "fetched/donateacry_corpus_cleaned_and_updated_data")
            args = [*args, "--from", str(house / "fetched")]
        assert main(args) == 0, command
    assert (house / "runs/comparison/report.md").exists()


@pytest.mark.parametrize("command", MAKE)
def test_every_make_command_has_its_chain(house, command):
    (house / ".venv").mkdir()
    (house / ".venv/installed").touch()
    for name in ("pyproject.toml", "constraints.txt"):
        (house / name).touch()
        os.utime(house / name, (0, 0))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    args = [
        arg.replace("path/to/recordings", str(house)).replace("data/donateacry", str(house))
        for arg in shlex.split(command)
    ]
    done = subprocess.run([*args, "-n"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search("cry_lightning|pytest", done.stdout)


@pytest.mark.parametrize("name", ["README.md", *OTHERS])
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", {**PAGES, **OTHERS}[name])
    assert all((REPO / link).exists() for link in links), links


def test_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


def test_every_command_and_room_is_in_a_table():
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGES["docs/api.md"], re.MULTILINE)
    assert sorted(rows) == sorted(COMMAND_TABLE)
    rooms = {path.stem for path in (REPO / "cry_lightning").iterdir() if (path.is_dir() or path.suffix == ".py")}
    named = {name for row in re.findall(r"^\|(.*?)\|", OTHERS["CONTRIBUTING.md"], re.MULTILINE) for name in spans(row)}
    assert named == {room for room in rooms if not room.startswith("_") and room != "configs"}


def test_recipes_are_python_and_yaml():
    defined = set()
    for block in blocks(OTHERS["CONTRIBUTING.md"], "python"):
        namespace = {"__name__": "recipe"}
        exec(block, namespace)
        defined |= {name for name, value in namespace.items() if getattr(value, "__module__", "") == "recipe"}
    for block in blocks(OTHERS["CONTRIBUTING.md"], "yaml"):
        assert yaml.safe_load(block)
        defined -= set(re.findall(r"\w+", block))
    assert not defined, "a YAML names each class"


@pytest.mark.parametrize("name", [*PAGES, *OTHERS])
def test_english_is_plain(name):
    text = re.sub(r"^```.*?^```|`[^`]*`", "", {**PAGES, **OTHERS}[name], flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\b(?:heard|told|made|said|taught|lessons?|neediest)\b", text, re.IGNORECASE)


class Anchors(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id"))
        self.references += [values[key] for key in ("href", "src") if values.get(key)]


def test_headings_do_not_begin_with_a_digit():
    """The site's table of contents finds them by CSS selectors, which `#1-...` is not."""
    assert not [heading for text in PAGES.values() for heading in re.findall(r"^#+ \d.*", text, re.MULTILINE)]


def test_links_and_the_menu_of_the_site_can_be_read():
    css = (REPO / "docs/site.css").read_text()
    colours = dict(re.findall(r"(--[\w-]+): (#\w{6}|\d+, \d+, \d+);", css))
    seen = ("--bs-link-color", "--bs-link-color-rgb", "--bs-link-hover-color", "--bs-primary-rgb")
    for name in seen:
        rgb = [int(value, 16) for value in re.findall(r"[0-9a-f]{2}", colours[name])]
        rgb = rgb if "#" in colours[name] else [int(value) for value in colours[name].split(",")]
        linear = [v / 12.92 if (v := one / 255) <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for one in rgb]
        assert 1.05 / (0.05 + np.dot([0.2126, 0.7152, 0.0722], linear)) > 4.5, name  # white and it, by WCAG 2


@pytest.mark.slow
def test_site_builds_without_warnings_and_its_links_lead_somewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(REPO / "mkdocs.yml")]
    done = subprocess.run([*command, "--strict", "--site-dir", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {page.name: Anchors(page) for page in tmp_path.glob("*.html") if page.name != "404.html"}
    assert set(pages) == {page.replace(".md", ".html") for page in NAV}
    for name, page in pages.items():
        for reference in page.references:
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(parts.path) or name
            assert (tmp_path / target).exists(), f"{name}: {reference}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{name}: {reference}"
    index = (tmp_path / "index.html").read_text()
    assert "darkmode.js" not in index or "hljs-dark" in index  # whose absence is an error of that script
    assert "Quick start" in index and "--8&lt;--" not in index  # the README's parts

"""report.html: one file that fetches nothing, escapes all it is given, and holds the numbers of report.md."""

import base64
import html
import io
import re
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from made import bind, write_run
from matplotlib.image import imread

from cry_lightning import serving
from cry_lightning.__main__ import run as command
from cry_lightning.audio.listening import LISTEN_HZ
from cry_lightning.console import UserError, clip_in_words
from cry_lightning.data import cachefile
from cry_lightning.data.inventory import content_hashes
from cry_lightning.evaluation import figures, predictions
from cry_lightning.evaluation.drawing import PAPER, save
from cry_lightning.evaluation.run import evaluate_run, read_run
from cry_lightning.files import sha256
from cry_lightning.lineage import sound_fingerprint
from cry_lightning.report import mistakes, page as html_page
from cry_lightning.report.command import write_card
from cry_lightning.report.mistakes import Mistake, Mistakes
from cry_lightning.report.page import Picture, StudyPage, write_page
from cry_lightning.report.words import Asked, Extras

main = partial(command, "evaluate")
SCRIPT, AMPERSAND = "<script>alert(1)</script>", 'a&b "$x$"'  # names of classes


def run_of(folder: Path, classes: tuple[str, str] = ("ill", "well"), trained_on: str = "other") -> Path:
    """A run of two classes by subject, validation rows, some mistakes and lineage, in a second or less."""
    rng = np.random.default_rng(0)
    rows = []
    for split, n_subjects in (("val", 6), ("test", 14)):
        for subject in range(n_subjects):
            label = subject % 2
            for clip in range(3):
                score = 1 / (1 + np.exp(-rng.normal(1.2 if label else -1.2, 1.5)))
                name = f"{split}{subject}-{clip}.wav"
                row = (f"{name}#0.000-1.000", name, f"made:{split}{subject}", 0, 0, split, classes[label])
                rows.append((*row, 1 - score, score))
    table = pd.DataFrame(rows, columns=[*predictions.KEYS, *(f"score_{name}" for name in classes)])
    return write_run(folder, table, trained_on)


class Reader(HTMLParser):
    """What a page shows, refers to and executes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.shown: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "srcset")]
        if tag in ("style", "title"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data) -> None:
        if not self.open:
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.shown).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """Report of one run whose classes and subgroups have names that are code."""
    folder = tmp_path_factory.mktemp("page")
    run = run_of(folder / "run", (SCRIPT, AMPERSAND))
    table = predictions.read(run / "predictions.csv")
    subjects = table[["subject"]].drop_duplicates()
    by = folder / "about.csv"
    subjects.assign(site=["<b>north</b>" if n % 3 else "south" for n in range(len(subjects))]).to_csv(by, index=False)
    main([str(run), "--by", str(by)])
    page = (run / "report.html").read_text()
    return SimpleNamespace(run=run, page=page, reader=Reader(page), table=table)


def test_page_holds_all_it_shows(made) -> None:
    assert "script" not in made.reader.tags and "link" not in made.reader.tags and "iframe" not in made.reader.tags
    assert {url.partition(":")[0] for url in made.reader.urls if not url.startswith("#")} <= {"data"}
    assert "@import" not in made.page and not re.search(r"url\((?!#)", made.page)
    assert "default-src 'none'" in made.page
    assert len(made.page.encode()) < 3_000_000
    for words in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert words in made.page


def test_figures_follow_the_colours_of_the_page(made) -> None:
    """What matplotlib draws in black: strokes, and fills that it does not name; copies of a mark have no parents."""
    rules = re.findall(r"^(.+?) \{ (?:stroke|fill): currentColor", made.page, re.MULTILINE)
    marks = re.findall(r'<use [^>]*style="([^"]*)"', made.page)
    assert any("stroke: #000000" in style and "fill" not in style for style in marks)
    assert '[style*="stroke: #000000"]' in rules
    assert any(re.search(r'\buse\b.*:not\(\[style\*="fill"\]\)', rule) for rule in rules)


def test_the_keyboard_reaches_and_screen_readers_name_what_is_shown(made) -> None:
    figures = re.findall(r"<figure[^>]*>\s*<div role=\"img\" aria-label=\"[^\"]+\">\s*<svg", made.page)
    assert len(figures) == made.page.count("<figure") > 1
    tables = re.findall(r"<div class=\"scroll\"[^>]*>", made.page)
    assert tables and all('tabindex="0"' in each for each in tables)
    names = [re.search('aria-label="(.+?)"', each)[1] for each in tables]
    assert len(names) > 2 and len(set(names)) == len(names)  # each says which it is
    bodies = re.findall("<tbody>(.*?)</tbody>", made.page, re.DOTALL)
    assert bodies and all(body.count('<th scope="row"') == body.count("<tr") for body in bodies)


def test_tables_wider_than_a_page_are_shaded_where_they_go_on(made) -> None:
    for rules in (made.page, (Path(serving.__file__).parent / "templates/page.css").read_text()):
        (rule,) = re.findall(r"^\.scroll \{(.*?)^\}", rules, re.DOTALL | re.MULTILINE)
        assert "overflow-x: auto" in rule
        assert len(re.findall(r"var\(--paper\).*no-repeat local", rule)) == 2
        assert len(re.findall(r"var\(--shade\).*no-repeat scroll", rule)) == 2
        assert rules.count("--shade:") == 2  # light and dark


def test_names_from_files_are_text(made) -> None:
    assert SCRIPT not in made.page and "<b>north</b>" not in made.page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made.page and "&lt;b&gt;north&lt;/b&gt;" in made.page
    for name in (SCRIPT, AMPERSAND):
        assert " ".join(name.split()) in made.reader.text
    figure = (made.run / "figures/confusion.svg").read_text()
    assert "&lt;script&gt;" in figure and "<script" not in figure
    assert "$x$" in html.unescape(figure)  # no formula


def test_verdict_and_warnings_come_first(made) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", made.page)
    assert titles == [
        *("What was run", "Results", "Errors to listen to", "Subgroups"),
        *("How to read the numbers", "How to reproduce"),
    ]
    verdict, first = made.page.index('class="verdict clean"'), made.page.index("<h2>")
    assert verdict < made.page.index("No recording level") < first


def test_numbers_are_those_of_the_other_files(made) -> None:
    markdown = (made.run / "report.md").read_text()
    page = made.page.replace("\u00a0", " ")  # within intervals
    in_page = re.findall(r"\d\.\d{3}(?: \[-?\d\.\d{3}, \d\.\d{3}\])?", " ".join(re.findall(r"<td.*?</td>", page)))
    assert len(in_page) > 40
    assert not [number for number in in_page if number not in markdown]
    numbers = pd.read_csv(made.run / "metrics.csv").query("predictor == 'model' and level == 'clip'")
    for metric in ("uar", "accuracy", "macro_auc"):
        row = numbers[numbers["metric"] == metric].iloc[0]
        assert f'<td class="number">{row["value"]:.3f} [{row["low"]:.3f}, {row["high"]:.3f}]</td>' in page


def test_worst_mistakes_are_listed_in_order(made) -> None:
    tested = made.table[made.table["split"] == "test"]
    scores = tested[[f"score_{SCRIPT}", f"score_{AMPERSAND}"]].to_numpy()
    wrong = tested[(scores.argmax(axis=1) == 1) != (tested["label"] == AMPERSAND)]
    wrong = wrong.assign(score=scores[(scores.argmax(axis=1) == 1) != (tested["label"] == AMPERSAND)].max(axis=1))
    expected = wrong.sort_values("score", ascending=False)["clip"].tolist()
    section = made.page[made.page.index('class="mistakes"') :]
    shown = re.findall(r"<p class=\"faint\">(\S+, 0\.0 to 1\.0 s)<br>", section)
    assert 3 < len(expected) <= mistakes.MOST and shown == [clip_in_words(clip) for clip in expected]
    assert "#0.000-1.000" not in made.page
    assert f"{len(expected)} of {len(tested)} tested rows" in made.reader.text


def test_page_tells_how_to_run_it_again(made) -> None:
    assert f"evaluate {made.run} --by {made.run.parent / 'about.csv'}" in made.reader.text
    assert sha256(made.run / "predictions.csv") in made.page
    assert re.search(r"torch \d+\.\d+", made.reader.text) and "finetune, made" in made.reader.text


@pytest.mark.slow
def test_figures_for_print(made, tmp_path) -> None:
    run = evaluate_run(read_run(str(made.run), "test"), "test", None)
    with PAPER.applied():
        save(figures.confusion(run, PAPER), tmp_path / "confusion.png", ".svg", ".pdf")
    assert imread(tmp_path / "confusion.png").shape[1] == 1050  # 3.5 inches of 300 dots
    assert (tmp_path / "confusion.pdf").read_bytes().startswith(b"%PDF")
    drawing = (tmp_path / "confusion.svg").read_text()
    assert set(re.findall(r"font-size: (\d+)px", drawing)) == {"7", "8"}
    assert str(made.run) not in html.unescape(drawing)  # the title is no path
    assert not list((made.run / "figures").glob("*.pdf"))


@pytest.mark.slow
def test_calibration_and_figures_for_print_are_on_request(tmp_path) -> None:
    run = run_of(tmp_path / "run")
    main([str(run), "--clinical", "--style", "paper"])
    page = (run / "report.html").read_text()
    assert "<h2>Calibration and thresholds</h2>" in page and page.count("<figure") == 3
    assert {path.suffix for path in (run / "figures").glob("clinical.*")} == {".png", ".svg", ".pdf"}
    main([str(run)])
    assert "Calibration and thresholds" not in (run / "report.html").read_text()
    names = {path.name for path in (run / "figures").iterdir()}  # what the other call drew is gone
    assert names == {"confusion.png", "confusion.svg", "curves.png", "curves.svg"}


def test_other_stamps_and_no_mistakes(no_figures, tmp_path) -> None:
    run = run_of(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    right = (table["label"] == "ill").astype(float)
    predictions.write(table.assign(score_ill=right, score_well=1 - right), run / "predictions.csv")
    main([str(run), "--with-audio"])  # the table is not that of its lineage
    page = (run / "report.html").read_text()
    assert 'class="verdict unknown-lineage"' in page and "It cannot be determined" in page
    assert "None: every one of 42 tested rows has the class of its label." in page
    (run / "lineage.json").unlink()
    main([str(run)])
    assert "training data that no lineage lists" in (run / "report.html").read_text()

    leaky = run_of(tmp_path / "leaky", trained_on="made:test3")
    with pytest.raises(UserError, match="LEAKY"):
        main([str(leaky)])
    assert not (leaky / "report.html").exists()
    main([str(leaky), "--allow-leaky"])
    assert 'class="verdict leaky"' in (leaky / "report.html").read_text()


def test_hash_is_that_of_the_table_that_was_given(no_figures, tmp_path) -> None:
    run = run_of(tmp_path / "run")
    other = run / "other.csv"
    other.write_text((run / "predictions.csv").read_text().replace("made:test0", "made:test99"))
    main([str(other), "--out", str(tmp_path / "out"), "--checklist", "stard-ai"])
    written = (tmp_path / "out/report.html").read_text() + (tmp_path / "out/checklist.md").read_text()
    assert sha256(other)[:12] in written and sha256(run / "predictions.csv")[:12] not in written


def test_several_runs_on_one_page(no_figures, tmp_path) -> None:
    runs = [str(run_of(tmp_path / name)) for name in ("first", "second")]
    main([*runs, "--out", str(tmp_path / "both")])
    page = (tmp_path / "both/report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == ["All runs", "first", "second", "How to read the numbers", "How to reproduce"]
    assert page.count("Errors to listen to") == 2 and "minus first" in page
    before, _, reproduce = page.partition("<h2>How to reproduce")
    assert all(before.count(run) == 1 and run in reproduce for run in runs)
    assert page.index('class="verdict clean"') < page.index("<h2>All runs")


def test_pooled_runs_show_the_stages_of_each(no_figures, tmp_path) -> None:
    folds = []
    for fold in range(2):
        run = run_of(tmp_path / f"fold{fold}")
        table = predictions.read(run / "predictions.csv")
        own = table["subject"].str[-1].astype(int) % 2 == fold
        predictions.write(table[own].assign(fold=fold), run / "predictions.csv")
        bind(run)
        folds.append(str(run))
    main(["--pool", *folds, "--out", str(tmp_path / "pooled")])
    page = (tmp_path / "pooled/report.html").read_text()
    assert "2 models, one for each fold" in page and "finetune, made" in page
    assert "training data that no lineage lists" not in page and "checkpoint not known" not in page


def test_what_makes_a_page_too_large_is_left_out(made, monkeypatch) -> None:
    run = evaluate_run(read_run(str(made.run), "test"), "test", None)
    found = Mistakes(1, 42, [Mistake("c", "s", SCRIPT, AMPERSAND, 0.9, 0.1, "data:image/png;,P", "data:audio/mpeg;,S")])
    monkeypatch.setattr(mistakes, "find", lambda *args: found)
    svg = "<svg>" + 4000 * " " + "</svg>"
    drawn = {run.name: [Picture("confusion", "figures/confusion.png", svg)]}
    arguments = [run], [], {run.name: Extras()}, drawn, Asked(with_audio=True)
    whole = html_page.page(*arguments)
    assert "Their sound" not in whole
    for part, without in (("data:audio", 20), ("data:image", 90), ("<svg", 500)):
        assert part in whole
        monkeypatch.setattr(html_page, "MOST_BYTES", len(whole) - without)
        assert part not in (smaller := html_page.page(*arguments)) and "Their sound is left out" in smaller


def test_of_one_class_there_is_a_page_too(no_figures, tmp_path) -> None:
    run = run_of(tmp_path / "run")
    table = predictions.read(run / "predictions.csv")
    predictions.write(table.assign(label="ill"), run / "predictions.csv")
    bind(run)
    main([str(run)])
    assert "n/a" in (run / "report.html").read_text()


@pytest.mark.parametrize("changed", [False, True])
def test_features_and_sound_are_found_by_content(tmp_path, changed) -> None:
    """A cache that holds another sound under the same name gives no picture of it."""
    sound = np.sin(np.arange(8000) / 3).astype(np.float32) / 2
    soundfile.write(tmp_path / "a.wav", sound, 8000)
    content = f"{content_hashes([tmp_path / 'a.wav'], tmp_path)[tmp_path / 'a.wav']}#0.000-1.000"
    settings = {"feature": '{"class_path": "cry_lightning.features.LogMel"}'}
    file = cachefile.create(tmp_path / "made.h5", (1, 1, 4, 6), "float32", ["a.wav#0.000-1.000"], [content], settings)
    file.write_rows(range(1), np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6), [""])
    tested = {"a.wav#0.000-1.000": sound_fingerprint("another#0.000-1.000" if changed else content, "")}
    found = mistakes.search(
        tested, {"cache": {"folder": str(tmp_path)}, "feature": {"class_path": "cry_lightning.features.MFCC"}}
    )
    if changed:
        assert found is None
        return
    assert found.feature == "LogMel"
    picture = imread(io.BytesIO(base64.b64decode(mistakes.pictures(found)["a.wav#0.000-1.000"].partition(",")[2])))
    assert picture.shape[:2] == (4, 6) and picture[0].sum() > picture[-1].sum()  # the highest row is on top
    kind, _, played = mistakes.playable(found)["a.wav#0.000-1.000"].partition(",")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(played)))
    assert kind == "data:audio/mpeg;base64" and rate == LISTEN_HZ and 0.2 < np.abs(heard).mean() < 0.4
    (tmp_path / "a.wav").unlink()
    assert mistakes.playable(found) == {}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("name", "n_items", "n_rows"), [("tripod-ai", 27, 52), ("stard-ai", 40, 48)])
def test_checklist_has_every_item(no_figures, tmp_path, name, n_items, n_rows) -> None:
    run = run_of(tmp_path / "run")
    main([str(run), "--checklist", name])
    text, page = (run / "checklist.md").read_text(), (run / "report.html").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if re.match(r"\| \d", line)]
    numbers = [row[0].removeprefix("| ") for row in rows]
    assert len(numbers) == n_rows and len({re.match(r"\d+", number)[0] for number in numbers}) == n_items
    assert all(row[2] or row[3].rstrip(" |") for row in rows)  # each is answered, or left to the authors
    assert re.findall(r"<dt>(\d+[a-g]?)</dt>", page) == numbers
    answered = {number: row[2] for number, row in zip(numbers, rows, strict=True)}
    performance, accuracy = ("23a", "12c") if name == "tripod-ai" else ("31", "15b")
    uar = pd.read_csv(run / "metrics.csv").query("level == 'clip' and metric == 'uar' and predictor == 'model'")
    assert f"UAR {uar['value'].iloc[0]:.3f} [" in answered[performance]
    assert "CNN" not in answered[accuracy]  # there is no config.yaml to tell
    assert answered["38" if name == "stard-ai" else "18a"] == ""  # who paid is not in any file
    main([str(run)])
    assert not (run / "checklist.md").exists()
    with pytest.raises(UserError, match="--checklist: is for one run"):
        main([str(run), str(run_of(tmp_path / "second")), "--checklist", name])


def test_card_has_every_field(made, no_figures, tmp_path) -> None:
    card = (made.run / "card.md").read_text()
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == [
        *("Intended use", "Model", "Data and subjects", "Protocol", "Results", "Subgroups", "Calibration", "Limits"),
        "How to cite",
    ]
    assert "noise is not always found unlike the training" in card
    assert "not a medical device" in card and card.splitlines()[2].startswith("**CLEAN**")
    summary = next(line for line in card.splitlines() if " clip | 42/42/14 |" in line)
    assert summary in (made.run / "report.md").read_text()
    assert "| site | &lt;b&gt;north&lt;/b&gt; |" in card and SCRIPT not in card
    run = run_of(tmp_path / "run")
    main([str(run), "--split", "val"])
    assert not list(run.rglob("card.md"))  # what chose the checkpoint is no test


def test_a_test_leaves_the_card_that_evaluate_writes(tested, no_figures, tmp_path) -> None:
    assert "**CLEAN**" in tested.with_name("card.md").read_text()
    run = Path(shutil.copytree(tested.parent, tmp_path / "run"))
    write_card(run)
    before = (run / "card.md").read_bytes()
    main([str(run)])
    assert (run / "card.md").read_bytes() == before


def test_a_test_that_leaks_has_no_card_before_it_is_asked_for(no_figures, tmp_path, caplog) -> None:
    leaky = run_of(tmp_path / "leaky", trained_on="made:test3")
    write_card(leaky)
    assert not (leaky / "card.md").exists() and re.search(r"no card.md: .*LEAKY, 1 of 14 tested", caplog.text)
    main([str(leaky), "--allow-leaky"])
    assert (leaky / "card.md").read_text().splitlines()[2].startswith("**LEAKY**")


@pytest.mark.slow
def test_settings_are_those_of_the_config(no_figures, tmp_path) -> None:
    run = run_of(tmp_path / "run")
    encoder = {"class_path": "cry_lightning.encoders.Res8", "init_args": {"n_maps": 4, "other": None}}
    weights, upstream = tmp_path / "a b/best.ckpt", tmp_path / "a b/config.yaml"
    config = {"seed_everything": 7, "model": {"init_args": {"encoder": encoder, "weights": str(weights)}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    main([str(run)])
    page = Reader((run / "report.html").read_text()).text
    assert "network Res8(n_maps=4)" in page and "seed 7" in page
    assert f"# weights that come from elsewhere: '{weights}'" in page and f"fit --config '{upstream}'" not in page
    assert f"test --config {run / 'config.yaml'}" in page
    upstream.parent.mkdir()
    upstream.touch()
    main([str(run)])
    assert f"fit --config '{upstream}'" in Reader((run / "report.html").read_text()).text
    assert "Res8(n_maps=4)" in (run / "card.md").read_text()
    again = [f"{chr(n + 1)}: &{chr(n + 1)} [{', '.join(9 * ['*' + chr(n)])}]" for n in range(ord("a"), ord("i"))]
    (run / "config.yaml").write_text("\n".join(["a: &a [x, x, x]", *again, "data: {split: *i}"]))
    main([str(run)])
    assert "division [[[[[...," in Reader((run / "report.html").read_text()).text
    (run / "config.yaml").write_text("a: [")
    main([str(run)])  # a damaged one is no reason not to report
    assert "Res8" not in (run / "report.html").read_text()


def test_a_study_has_such_a_page_too(tmp_path) -> None:
    tables = [[["system", ""], [SCRIPT, "0.5 [0.4, 0.6]"]]]
    reports = [(AMPERSAND, Path("by subject/report.html"))]
    study = StudyPage(
        SCRIPT, f"run {AMPERSAND}", tables, verdict=SCRIPT, figures=[("curve", "<svg></svg>")], reports=reports
    )
    assert write_page(study, tmp_path) == tmp_path / "report.html"
    text = (tmp_path / "report.html").read_text()
    reader = Reader(text)
    assert "script" not in reader.tags and "svg" in reader.tags and reader.urls == ["by%20subject/report.html"]
    assert html.unescape(text).count(SCRIPT) == 4  # title, heading, verdict, cell
    assert '<th scope="col">system</th><td></td>' in text  # no header without a text
    assert 'aria-label="Table 1"' in text
    assert "default-src 'none'" in text and html.escape(f"run {AMPERSAND}", quote=False).split("&")[0] in text

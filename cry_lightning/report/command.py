"""`python -m cry_lightning evaluate`: runs in, one table, figures and reports out."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from cry_lightning.console import UserError, for_spreadsheets, on_one_line
from cry_lightning.dashboard.runs import send_report
from cry_lightning.evaluation.clinical import Readout, read_out
from cry_lightning.evaluation.compare import COLUMNS, Pair, as_text, pairs, section, summary, two_class
from cry_lightning.evaluation.run import Run, evaluate_run, evaluated, named_apart, pool, read_run
from cry_lightning.evaluation.subgroups import subgroups
from cry_lightning.files import replacing, write_table, write_text
from cry_lightning.lineage import refuse_leaky
from cry_lightning.report import checklist, markdown, words
from cry_lightning.report.checklist import fill
from cry_lightning.report.facts import Facts
from cry_lightning.report.words import LEAKS, Asked, Extras

log = logging.getLogger(__name__)
COMPARISON = Path("runs/comparison")  # where the report of several runs goes, unless that of others is there
NOTE = "runs"  # in the folder of a comparison: which runs it is of
LEGEND = """\
[low, high]: 95 % interval over {drawn}. UAR: balanced accuracy. AUC: mean over classes.
always X: the majority baseline, which says the class commonest among the tested cases."""
CSV_COLUMNS = ["run", "level", "metric", "class", "value", "low", "high", "n_units", "n_subjects"]
CARD = "card.md"
THRESHOLDS = [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]  # of the decision curve, in clinical.csv
OPTIONAL = ("differences.csv", "clinical.csv", LEAKS, CARD, "checklist.md")


def run(
    named: Sequence[str],
    pooled: Sequence[Sequence[str]],
    out: Path | None,
    allow_leaky: bool,
    split: str,
    positive: str | None,
    clinical: bool,
    prevalences: Sequence[float],
    by: Path | None,
    asked: Asked,
) -> pd.DataFrame:
    """Evaluate runs; returns what metrics.csv holds."""
    if asked.checklist and len(named) + len(pooled) > 1:
        raise UserError("--checklist: is for one run; evaluate it alone")
    tested = [read_run(run, split) for run in named]
    tested += [pool([read_run(run, split) for run in folds]) for folds in pooled]
    runs = named_apart([evaluate_run(run, split, positive) for run in tested])
    of_runs = _as_note(named, pooled)
    folder = out or _default_folder(runs, split, of_runs)
    if not allow_leaky:
        way_out = "Train without them, or let --allow-leaky stamp the report LEAKY"
        if len(leaks := leaks_of(runs)):
            write_table(leaks, folder / LEAKS, errors="backslashreplace")
            way_out = f"{folder / LEAKS} names every such clip. {way_out}"
        refuse_leaky([(run.name, run.leakage) for run in runs], way_out)

    compared = pairs(runs)
    extras = {run.name: _extras(run, clinical, prevalences, by) for run in runs}
    report = write_report(runs, compared, folder, extras, asked)
    if len(runs) > 1 and out is None:
        with replacing(folder / NOTE) as part:
            part.write_bytes(of_runs)
    if runs[0].shared:
        print(f"Runs in {runs[0].shared}")
    print(as_text(summary(runs)), end="\n\n")
    print(LEGEND.format(drawn=words.drawn(runs)))
    if compared:
        print("\n" + "\n".join(section(compared, as_text, on_one_line)))
    for run in runs:
        print(f"\n{run.label}: {words.verdict(run)}")
        print("\n".join(f"- {on_one_line(remark)}" for remark in [words.lineage(run), *run.notes]))
        if run.positive:
            print(as_text(two_class(run, run.positive)))
        for title, rows in extras[run.name].tables:
            print(f"\n{title}\n{as_text(rows)}")
    print(f"\nReport: {report}")
    return metrics_of(runs)


def _extras(run: Run, clinical: bool, prevalences: Sequence[float], by: Path | None) -> Extras:
    readout = read_out(run, prevalences) if clinical else None
    return Extras(readout, subgroups(run, by) if by is not None else None)


def _as_note(named: Sequence[str], pooled: Sequence[Sequence[str]]) -> bytes:
    """The runs as they are named, a line for each; the folds of a pooled one stand on one line."""
    each = [[run] for run in named] + [list(folds) for folds in pooled]
    lines = [" + ".join(str(Path(run)) for run in folds) for folds in each]
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def _default_folder(runs: Sequence[Run], split: str, of_runs: bytes) -> Path:
    """Where a report goes: no comparison takes the place of that of other runs."""
    below = "validation" if split == "val" else ""
    if len(runs) == 1:
        return runs[0].folder / below
    folder, note = COMPARISON / below, COMPARISON / below / NOTE
    is_free = not (folder / "report.md").exists() or (note.exists() and note.read_bytes() == of_runs)
    own = COMPARISON.with_name(f"{COMPARISON.name}-{hashlib.sha256(of_runs).hexdigest()[:6]}")
    return folder if is_free else own / below


def metrics_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each metric of each run, class and predictor, with its interval."""
    numbers = [run.results.assign(run=run.name, lineage=run.leakage.status) for run in runs]
    return pd.concat(numbers, ignore_index=True)[[*CSV_COLUMNS, "predictor", "lineage"]]


def leaks_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each tested clip of each run and what it was found as in the training, as of `Leakage.leaks`."""
    return pd.concat([run.leakage.leaks.assign(run=run.name) for run in runs], ignore_index=True)


def _clinical_table(found: Readout) -> pd.DataFrame:
    """The figures, and below them points of the decision curve."""
    points = found.curves[found.curves["threshold"].round(2).isin(THRESHOLDS)]
    points = points.assign(at=points["threshold"].map("threshold {:g}".format))
    of_model = points.assign(quantity="net benefit", value=points["model"])
    of_all = points.assign(quantity=f"net benefit of calling all {found.positive}", value=points["all"])
    of_all = of_all.assign(low=np.nan, high=np.nan)
    return pd.concat([found.figures, of_model, of_all], ignore_index=True)[[*found.figures]]


def write_report(
    runs: Sequence[Run],
    compared: Sequence[Pair],
    out: Path,
    extras: Mapping[str, Extras] | None = None,
    asked: Asked | None = None,
) -> Path:
    """Write report.html, report.md, metrics.csv and figures/, and what else there is; returns the path of the page.

    Of several runs, differences.csv is added; of a test that leaks, leaks.csv; of one run that was tested, card.md, and
    what was asked for. The metrics are added to the dashboard's runs, too, where the tests were shown there.
    """
    # These take seconds to import; no mistake should be reported that late.
    from cry_lightning.report import page

    asked = asked or Asked()
    extras = {run.name: (extras or {}).get(run.name, Extras()) for run in runs}
    drawn = {
        run.name: page.draw(run, extras[run.name], out, f"{number}-" if len(runs) > 1 else "", asked.style)
        for number, run in enumerate(runs, 1)
    }
    only = Facts(runs[0], extras[runs[0].name]) if len(runs) == 1 else None
    filled = fill(asked.checklist, only) if only and asked.checklist else None
    contents = runs, compared, extras, drawn
    texts = {"report.md": markdown.page(*contents), "report.html": page.page(*contents, asked, filled)}
    if only and (only.run.table["split"] == "test").all():
        texts[CARD] = markdown.card(only)
    if only and filled:
        texts["checklist.md"] = checklist.page(filled, only.run.title)
    tables = {"metrics.csv": metrics_of(runs)}
    if len(leaks := leaks_of(runs)):
        tables[LEAKS] = leaks
    if compared:
        tables["differences.csv"] = pd.concat([pair.differences for pair in compared])[COLUMNS]
    if found := [_clinical_table(each.readout).assign(run=name) for name, each in extras.items() if each.readout]:
        tables["clinical.csv"] = pd.concat(found)
    with ExitStack() as files:  # all of them or none, so that none tells of another test than the next
        for name, table in tables.items():
            part = files.enter_context(replacing(out / name))
            for_spreadsheets(table).to_csv(part, index=False, errors="backslashreplace")
        for name, text in texts.items():
            files.enter_context(replacing(out / name)).write_text(text, "utf-8", "backslashreplace")
    for name in set(OPTIONAL) - set(tables) - set(texts):
        (out / name).unlink(missing_ok=True)  # of other runs, or of another call
    send_report(runs, out / "report.html", asked.send_report)
    return out / "report.html"


def write_card(folder: Path) -> None:
    """Write the model card of a run that was just tested; none, with a warning, of what `evaluate` would refuse."""
    try:
        run = evaluated(folder)
        refuse_leaky([(run.name, run.leakage)], "`evaluate --allow-leaky` stamps a report so")
    except UserError as error:  # the test is none the worse
        log.warning("no %s: %s", CARD, error)
        return
    write_text(markdown.card(Facts(run, Extras())), folder / CARD)

"""The files of a report, all of them or none."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from cry_lightning.console import UserError, for_spreadsheets
from cry_lightning.dashboard.runs import send_report
from cry_lightning.evaluation.compare import COLUMNS, Pair
from cry_lightning.evaluation.run import Run, evaluate_run, read_run
from cry_lightning.files import replacing
from cry_lightning.lineage import refuse_leaky
from cry_lightning.report import checklist, markdown
from cry_lightning.report.checklist import fill
from cry_lightning.report.facts import Facts
from cry_lightning.report.words import Asked, Extras

log = logging.getLogger(__name__)
CSV_COLUMNS = ["run", "level", "metric", "class", "value", "low", "high", "n_units", "n_subjects"]
CARD = "card.md"
OPTIONAL = ("differences.csv", "clinical.csv", CARD, "checklist.md")


def metrics_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each metric of each run, class and predictor, with its interval."""
    numbers = [run.results.assign(run=run.name, lineage=run.leakage.status) for run in runs]
    return pd.concat(numbers, ignore_index=True)[[*CSV_COLUMNS, "predictor", "lineage"]]


def write_report(
    runs: Sequence[Run],
    compared: Sequence[Pair],
    out: Path,
    extras: Mapping[str, Extras] | None = None,
    asked: Asked | None = None,
) -> Path:
    """Write report.html, report.md, metrics.csv and figures/, and what else there is; returns the path of the page.

    Of several runs, differences.csv is added; of one that was tested, card.md, and what was asked for. The metrics are
    added to the dashboard's runs, too, where the tests were shown there.
    """
    # These take seconds to import; no mistake should be reported that late.
    from cry_lightning.report import page, pictures

    asked = asked or Asked()
    extras = {run.name: (extras or {}).get(run.name, Extras()) for run in runs}
    drawn = {
        run.name: pictures.draw(run, extras[run.name], out, f"{number}-" if len(runs) > 1 else "", asked.style)
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
    if compared:
        tables["differences.csv"] = pd.concat([pair.differences for pair in compared])[COLUMNS]
    if found := [each.readout.figures.assign(run=name) for name, each in extras.items() if each.readout]:
        tables["clinical.csv"] = pd.concat(found)
    with ExitStack() as files:  # all of them or none, so that none tells of another test than the next
        for name, table in tables.items():
            for_spreadsheets(table).to_csv(files.enter_context(replacing(out / name)), index=False)
        for name, text in texts.items():
            files.enter_context(replacing(out / name)).write_bytes(as_bytes(text))
    for name in set(OPTIONAL) - set(tables) - set(texts):
        (out / name).unlink(missing_ok=True)  # of other runs, or of another call
    send_report(runs, out / "report.html", asked.send_report)
    return out / "report.html"


def write_card(folder: Path) -> None:
    """Write the model card of a run that was just tested; none, with a warning, of what `evaluate` would refuse."""
    try:
        run = evaluate_run(read_run(str(folder), "test"), "test", None)
        refuse_leaky([(run.name, run.leakage)], "`evaluate --allow-leaky` stamps a report so")
    except UserError as error:  # the test is none the worse
        log.warning("no %s: %s", CARD, error)
        return
    with replacing(folder / CARD) as part:
        part.write_bytes(as_bytes(markdown.card(Facts(run, Extras()))))


def as_bytes(text: str) -> bytes:
    """A text as it is written; of a file name that is no UTF-8, the bytes are escaped."""
    return text.encode(errors="backslashreplace")

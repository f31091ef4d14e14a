"""`python -m cry_lightning paper`: a publication's systems run whole, its table beside ours."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cry_lightning.arguments import check_folder
from cry_lightning.console import as_markdown_text, for_spreadsheets
from cry_lightning.evaluation.tables import as_markdown, as_text
from cry_lightning.files import replacing
from cry_lightning.papers import table
from cry_lightning.papers.reading import read_paper
from cry_lightning.papers.running import Plan, Runs, run_all, run_upstream
from cry_lightning.papers.study import Paper, can_run, setting_of


def run(
    given: Path,
    corpus: str | None,
    overrides: Sequence[str],
    seeds: Sequence[int] | None,
    jobs: int,
    out: Path | None,
) -> pd.DataFrame:
    """Run the command; returns what table.csv holds."""
    path = given / "paper.yaml" if given.is_dir() else given
    paper = read_paper(path)
    name, setting = setting_of(paper, corpus)
    paper = can_run(paper)
    study = path.parent.name if path.stem == "paper" else f"{path.parent.name}-{path.stem}"
    out = out or Path("runs") / study / name
    check_folder("--out", out)
    plan = Plan(path, paper, setting, out, overrides, seeds, jobs)
    runs = run_all(plan)
    tables = [table.figures(paper, runs, metric) for metric in paper.metrics]
    tables += [*table.of_classes(runs), *table.of_folds(runs), table.differences(paper, runs)]
    tables += table.of_works(paper)
    if tested := run_upstream(plan):
        tables.insert(0, table.of_upstream(paper, tested))
    head = f"{paper.title}, on {name}. {setting.note}".strip()
    text = "\n\n".join([head, *map(as_text, tables), table.reading(runs)])
    write(
        paper, runs, out, "\n\n".join([f"# {as_markdown_text(head)}", *map(as_markdown, tables), table.reading(runs)])
    )
    print(f"\n{text}\n\n{out / 'table.md'}\n{out / 'table.csv'}")
    for protocol in sorted({run.folder.parent for of_protocol in runs.values() for run in of_protocol.values()}):
        print(protocol / "report.md")
    return table.long_form(paper, runs)


def write(paper: Paper, runs: Runs, out: Path, markdown: str) -> None:
    """Write table.md and table.csv."""
    with replacing(out / "table.md") as part:
        part.write_text(markdown + "\n", encoding="utf-8")
    with replacing(out / "table.csv") as part:
        for_spreadsheets(table.long_form(paper, runs)).to_csv(part, index=False)

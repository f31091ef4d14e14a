"""`python -m cry_lightning describe`: tables on the terminal; describe.md, CSV files and a figure in a folder."""

from collections.abc import Sequence
from pathlib import Path

from cry_lightning.commands.arguments import check_folder
from cry_lightning.console import printable
from cry_lightning.data.argument import open_data
from cry_lightning.describe import summary
from cry_lightning.describe.report import as_page, as_terminal, tell
from cry_lightning.files import replacing


def run(given: str, overrides: Sequence[str], by: Sequence[str] | None, sample: int | None, out: Path | None) -> Path:
    """Run the command; returns the report's path."""
    data = open_data(given, overrides)
    out = out or Path("runs", data.corpus.name, "describe")
    check_folder("--out", out)
    sections = tell(summary.take(data, by, sample), out)
    with replacing(out / "describe.md") as part:
        part.write_text(printable(as_page(data.corpus.name, sections)), encoding="utf-8")
    print(printable(as_terminal(sections)))
    print(f"\nReport: {out / 'describe.md'}")
    return out / "describe.md"

"""`python -m cry_lightning describe`: tables on the terminal; describe.md, CSV files and a figure in a folder."""

from collections.abc import Sequence
from pathlib import Path

from cry_lightning.commands.arguments import check_folder, find_shipped
from cry_lightning.commands.configs import ENDINGS
from cry_lightning.console import counted, printable
from cry_lightning.data.argument import open_data
from cry_lightning.describe import summary
from cry_lightning.describe.report import as_page, as_terminal, tell
from cry_lightning.files import replacing

OWN = "configs/data/own.yaml"


def run(given: str, overrides: Sequence[str], by: Sequence[str] | None, sample: int | None, out: Path | None) -> Path:
    """Run the command; returns the report's path."""
    data = open_data(given, overrides)
    out = out or Path("runs", data.corpus.name, "describe")
    check_folder("--out", out)
    sections = tell(summary.take(data, by, sample), out)
    if data.corpus.window_s is None and not given.lower().endswith(ENDINGS):
        sections[0].remarks += as_make_cuts(given, overrides)
    with replacing(out / "describe.md") as part:
        part.write_text(printable(as_page(data.corpus.name, sections)), encoding="utf-8")
    print(printable(as_terminal(sections)))
    print(f"\nReport: {out / 'describe.md'}")
    return out / "describe.md"


def as_make_cuts(given: str, overrides: Sequence[str]) -> list[str]:
    """What `make` trains on where it is given a path, in words: windows are counted by the headers of files alone."""
    corpus = open_data(find_shipped([OWN])[0], [f"--data.corpus.init_args.path={given}", *overrides]).corpus
    level_db, corpus.min_active_db = corpus.min_active_db, None
    if corpus.window_s is None:
        return []
    quiet = f", less the windows below {level_db:g} dB" if level_db is not None else ""
    cut = f"`make` cuts them into windows of {corpus.window_s:g} s, by {OWN}"
    return [f"Clips are whole here; {cut}: {counted(len(corpus.clips()), 'clip')}{quiet}."]

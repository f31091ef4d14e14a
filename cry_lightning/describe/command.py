"""`python -m cry_lightning describe`: tables on the terminal; describe.md, CSV files and a figure in a folder."""

from pathlib import Path

from cry_lightning.arguments import check_folder
from cry_lightning.commands.describe import arguments
from cry_lightning.data_argument import open_data
from cry_lightning.describe import census
from cry_lightning.describe.report import as_page, as_terminal
from cry_lightning.describe.sections import tell
from cry_lightning.wording import printable
from cry_lightning.writing import replacing


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the data, as in `fit`.

    Raises:
        UserError: an option makes no sense, or the data cannot be read.
    """
    options = arguments(argv)
    data = open_data(options.data, options.overrides)
    out = options.out or Path("runs", data.corpus.name, "describe")
    check_folder("--out", out)
    sections = tell(census.take(data, options.by, options.sample), out)
    with replacing(out / "describe.md") as part:
        part.write_text(printable(as_page(data.corpus.name, sections)), encoding="utf-8")
    print(printable(as_terminal(sections)))
    print(f"\nReport: {out / 'describe.md'}")

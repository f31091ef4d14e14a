"""`python -m cry_lightning describe`: tables on the terminal; describe.md, CSV files and a figure in a folder."""

from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder
from cry_lightning.data_argument import open_data
from cry_lightning.describe import census
from cry_lightning.describe.report import as_page, as_terminal
from cry_lightning.describe.sections import tell
from cry_lightning.errors import UserError
from cry_lightning.evaluation.predictions import replacing
from cry_lightning.messages import printable


def main(argv: list[str]) -> None:
    """Run the command; what it does not know itself is an override of the data, as in `fit`.

    Raises:
        UserError: an option makes no sense, or the data cannot be read.
    """
    options, overrides = _parser().parse_known_args(argv)
    if options.sample is not None and options.sample < 1:
        raise UserError(f"--sample {options.sample}: decode 1 recording or more")
    if options.out:
        check_folder("--out", options.out)
    data = open_data(options.data, overrides)
    out = options.out or Path("runs", data.corpus.name, "describe")
    check_folder("--out", out)
    sections = tell(census.take(data, options.by, options.sample), out)
    with replacing(out / "describe.md") as part:
        part.write_text(printable(as_page(data.corpus.name, sections)), encoding="utf-8")
    print(printable(as_terminal(sections)))
    print(f"\nReport: {out / 'describe.md'}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m cry_lightning describe",
        description="Count subjects, recordings, clips and minutes by class and column; measure the sound; find copies;"
        " tell which splits the subjects can support. Nothing is trained and no feature cache is built.",
        epilog="Further arguments override the data as in fit, e.g. --data.corpus.init_args.target=age."
        " Subjects appear as numbers only, recordings by name where one is at fault.",
    )
    parser.add_argument("--data", required=True, metavar="DATA", help="data YAML, folder of recordings or manifest.csv")
    by = "columns to count by; default: those with few values"
    parser.add_argument("--by", nargs="+", metavar="COLUMN", help=by)
    parser.add_argument("--sample", type=int, metavar="N", help="decode only N recordings, drawn at random")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/CORPUS/describe")
    return parser

"""Options that `predict` and `embed` share."""

from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_folder, count_of
from cry_lightning.errors import UserError
from cry_lightning.trust.names import add_trust


def add_options(parser: ArgumentParser, out: str) -> None:
    """Add the checkpoint, the default of --out, and how to compute."""
    parser.add_argument("--ckpt", type=Path, required=True, metavar="CKPT", help="of a stage: RUN/best.ckpt")
    add_trust(parser)
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=count_of("clips"), default=64, metavar="B", help="clips at once (%(default)s)"
    )


def refuse_existing(*paths: Path) -> None:
    """Refuse to write where something is already, or where no folder can be.

    Raises:
        UserError: naming the path.
    """
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists already; remove it, or name another with --out")
        check_folder("--out", path.parent)

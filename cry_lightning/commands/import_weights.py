"""What `import-weights` takes."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cry_lightning.arguments import ArgumentParser, check_there
from cry_lightning.errors import UserError

PUBLISHERS = {  # whose weights -> the networks they are for
    "panns": ("cnn14", "cnn10", "cnn6"),
    "speechbrain": ("cnn14", "cnn10", "cnn6"),
    "honk": ("res8",),
    "vggish": ("vggish",),
    "efficientat": ("efficientat",),
}


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: the file is not there, or the checkpoint to be written is.
    """
    options = parser().parse_args(argv)
    if options.to.exists():
        raise UserError(f"{options.to} exists already; remove it, or name another with --to")
    check_there(options.file, "download the weights from their publisher first")
    if options.encoder not in (None, *PUBLISHERS[options.publisher]):
        raise UserError(f"--encoder {options.encoder}: not among the networks of {options.publisher}")
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning import-weights",
        description="Turn published weights, in a local file, into a checkpoint that `weights:` takes.",
        epilog="What they were trained on is not known: evaluation says UNKNOWN LINEAGE of what is built on them.",
    )
    networks = sorted({network for of_publisher in PUBLISHERS.values() for network in of_publisher})
    files = (
        "Cnn14_16k_mAP=0.438.pth, SpeechBrain's *.ckpt, honk's res8.pt, torchvggish's vggish-10086976.pth,"
        " EfficientAT's mn04_as_mAP_432.pt"
    )
    parser.add_argument("publisher", choices=PUBLISHERS, help="whose they are")
    parser.add_argument("file", type=Path, help=f"their file, such as PANNs' {files}")
    parser.add_argument("--to", type=Path, required=True, metavar="CKPT", help="the checkpoint to be written")
    parser.add_argument("--encoder", choices=networks, help="the network, for panns and speechbrain (cnn14)")
    return parser

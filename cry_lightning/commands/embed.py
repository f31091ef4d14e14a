"""What `embed` takes."""

from argparse import Namespace
from collections.abc import Sequence

from cry_lightning.arguments import ArgumentParser, check_there
from cry_lightning.errors import UserError
from cry_lightning.inference.options import add_options, refuse_existing

OVERRIDDEN = ("--data.corpus", "--data.cache_dir")
METHODS = ("pca", "tsne")


def arguments(argv: Sequence[str]) -> Namespace:
    """The options given.

    Raises:
        UserError: an option makes no sense, or a file is not there.
    """
    own = parser()
    options = own.parse_with_overrides(argv)
    for key in (text for text in options.overrides if text.startswith("--") and not text.startswith(OVERRIDDEN)):
        own.error(f"unrecognized argument {key}: but for {' and '.join(OVERRIDDEN)}, all is the checkpoint's")
    if options.out.suffix not in (".h5", ".hdf5"):
        raise UserError(f"--out {options.out}: embeddings are written as HDF5; name a file that ends in .h5")
    refuse_existing(options.out, options.out.with_suffix(".png"))
    check_there(options.ckpt, "name a run's best.ckpt", "checkpoint")
    for path in options.paths:
        check_there(path, "give folders of recordings, manifests or data YAMLs")
    return options


def parser() -> ArgumentParser:
    """The options of the command."""
    parser = ArgumentParser(
        prog="python -m cry_lightning embed",
        description="Embeddings of clips by the encoder of a stage, with all that is known of the clips, as HDF5; and "
        "beside it a map of them. Folders and manifests are cut into windows as the training corpus was, or, if it was "
        "not, into clips of the model's length; a data YAML says itself how its corpus is cut.",
        epilog="The front end is always the checkpoint's. Further arguments override the corpus as in fit, e.g. "
        "--data.corpus.init_args.target=age.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a folder of recordings, a manifest.csv or a data YAML"
    )
    add_options(parser, out="embeddings.h5")
    parser.add_argument("--color", default="label", metavar="COLUMN", help="of the map (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, default="pca", help="of the map (default: %(default)s)")
    return parser

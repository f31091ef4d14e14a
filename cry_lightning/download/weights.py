"""`weights`: published weights by their names, fetched or from a local file, verified, and imported."""

import shutil
import tempfile
from pathlib import Path

from cry_lightning.commands.arguments import check_there
from cry_lightning.console import UserError
from cry_lightning.download.archives import check, check_form, downloaded
from cry_lightning.download.published import WEIGHTS
from cry_lightning.files import replacing

FOLDER = Path("runs/weights")  # where recipes look for them
OWN_COPY = "get a copy by other means, and give it by --file PATH"


def places() -> dict[str, Path]:
    """Where each goes, unless the user names another place."""
    return {name: FOLDER / f"{name}{of.suffix}" for name, of in WEIGHTS.items()}


def table() -> str:
    """A paragraph for each: name, what is known of it, URL, and whether it is there."""
    there = {True: "is there", False: "is not there"}
    return "\n\n".join(
        f"{name}\n  {WEIGHTS[name]}\n  {WEIGHTS[name].url}\n  {place} {there[place.exists()]}"
        for name, place in places().items()
    )


def get(name: str, file: Path | None, to: Path | None, sha256: str | None, accept_unverified: bool) -> Path:
    """The file that encoders read, made from the published one.

    Args:
        name: of the weights.
        file: the published file, where it is on this machine.
        to: the file to be made.
        sha256: that the published file must have.
        accept_unverified: take it whatever its hash is.

    Raises:
        UserError: the file is there already, or the published one cannot be had, verified or imported.
    """
    weights, to = WEIGHTS[name], to or places()[name]
    check_form(sha256)
    expected = sha256 or (None if accept_unverified else weights.digest)
    if weights.publisher is None and to.suffix != weights.suffix:
        raise UserError(f"--to {to}: timm tells by the ending how a file is read; let it end in {weights.suffix}")
    if to.exists():
        raise UserError(f"{to} exists already; remove it, or name another with --to")
    if file is not None:
        check_there(file, OWN_COPY, "file of weights")
    if expected is None and not accept_unverified:
        raise UserError(
            f"{name}: sha256 not known: its publisher gives none; give --sha256 HASH or --accept-unverified"
        )
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        published = file or downloaded(weights.url, Path(folder), OWN_COPY)
        check(published, expected, file or weights.url)
        from cry_lightning.download.import_weights import check_network, run

        if weights.publisher:
            return run(weights.publisher, published, to, weights.encoder, weights.sizes)
        check_network(published, weights.encoder or name, to)
        with replacing(to) as part:
            shutil.copyfile(published, part)
    print(f"{to}: {weights.about}, to be read by checkpoint_path")
    return to

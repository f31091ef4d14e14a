"""Fetch a public corpus, or unpack a copy of it that is already on this machine; every hash is checked or told."""

import shutil
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch

from cry_lightning.arguments import ArgumentParser
from cry_lightning.errors import UserError


@dataclass(frozen=True)
class Source:
    """A public archive and what is known of it."""

    url: str
    sha256: str | None  # None: its publisher names none and the archive is made anew on request
    recordings: str  # folder in the archive that holds the recordings
    licence: str
    on_request: str | None = None  # what the archive holds, of a corpus that its owners hand out themselves


OWN_COPY = "get a copy by other means, and give it by --from PATH"
SOURCES = {
    "chillanto": Source(
        "https://ccc.inaoep.mx/~kargaxxi/",
        None,
        ".",
        "as agreed with INAOE, Mexico",
        on_request="the folders 1s_asphyxia, 1s_deaf, 1s_hunger, 1s_normal and 1s_pain",
    ),
    "donateacry": Source(
        "https://github.com/gveres/donateacry-corpus/archive/refs/heads/master.zip",
        None,
        "donateacry_corpus_cleaned_and_updated_data",
        "ODbL 1.0",
    ),
    "esc50": Source(
        "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
        "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
        "audio",
        "CC BY-NC 3.0",
    ),
    "fsdd": Source(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
        None,
        "recordings",
        "CC BY-SA 4.0",
    ),
    "speech_commands": Source(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ".",
        "CC BY 4.0",
    ),
    "speech_commands_v0.01": Source(
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ".",
        "CC BY 4.0",
    ),
}


def main(argv: list[str]) -> None:
    """The command `download`."""
    parser = ArgumentParser(
        prog="python -m cry_lightning download", description="Fetch a public corpus, its hash checked."
    )
    parser.add_argument("corpus", choices=SOURCES)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder to make (default: data/CORPUS)")
    parser.add_argument("--from", type=Path, metavar="PATH", dest="local", help="take this archive or folder instead")
    parser.add_argument("--sha256", metavar="HASH", help="the hash the archive must have")
    parser.add_argument("--accept-unverified", action="store_true", help="take the archive whatever its hash is")
    args = parser.parse_args(argv)

    source, to = SOURCES[args.corpus], args.to or Path("data") / args.corpus
    if source.on_request is not None and args.local is None:
        raise UserError(
            f"{args.corpus}: its owners hand it out on request, see {source.url}; {to} is to hold {source.on_request},"
            " put there by hand or by --from ARCHIVE"
        )
    expected = args.sha256 or (None if args.accept_unverified else source.sha256)
    if expected is None and args.local is None and not args.accept_unverified:
        raise UserError(f"{args.corpus}: no hash is published; give --sha256 HASH or --accept-unverified")
    fetch(source.url, to, args.local, expected)
    print(f"{args.corpus} ({source.licence}): the recordings are at {to / source.recordings}")


def fetch(url: str, to: Path, local: Path | None = None, sha256: str | None = None) -> None:
    """Make the folder `to` from the archive at a URL, or from a local archive or folder; all of it or nothing.

    Raises:
        UserError: `to` exists, the archive cannot be had, has another hash, or is damaged or unsafe.
    """
    if to.exists():
        raise UserError(f"{to}: exists already; remove it or choose another folder with --to")
    part = to.with_name(to.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed run left behind
    try:
        part.mkdir(parents=True)
        tree = part / "tree"
        if local is not None and local.is_dir():
            shutil.copytree(local, tree)
        else:
            archive = _download(url, part) if local is None else local
            _check(archive, sha256)
            tree = _extracted(archive, tree)
        tree.rename(to)
    except OSError as error:
        raise UserError(f"{local or url}: cannot be fetched to {to} ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(url: str, folder: Path) -> Path:
    pooch.get_logger().setLevel("WARNING")  # it would advise to copy the hash it found into the code
    name, bar = PurePosixPath(url).name, sys.stderr.isatty()  # as other bars, for a terminal alone
    try:
        return Path(pooch.retrieve(url, known_hash=None, path=folder, fname=name, progressbar=bar))
    except OSError as error:
        cause: BaseException = error
        while cause.__context__:  # what went wrong is innermost, and around it objects of libraries
            cause = cause.__context__
        reason = str(cause).partition(" for url")[0]
        raise UserError(f"{url}: cannot be downloaded ({reason}); {OWN_COPY}") from error


def _check(archive: Path, sha256: str | None) -> None:
    if not archive.is_file():
        raise UserError(f"{archive}: no such file or folder")
    found = pooch.file_hash(archive)
    if sha256 is None:
        print(f"{archive.name}: sha256 {found}, not verified")
    elif found != sha256.lower():
        raise UserError(f"{archive}: sha256 is {found}, expected {sha256}; the archive is damaged or another version")


def _extracted(archive: Path, folder: Path) -> Path:
    """Unpack an archive; the folder that holds everything is the one it returns."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for name in bundle.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise UserError(f"{archive}: unsafe, wants to write outside of its folder at {name}")
                bundle.extractall(folder)
        else:
            with tarfile.open(archive) as bundle:
                bundle.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: unsafe, {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = str(error).partition(":\n")[0]  # after it, one of each compression
        raise UserError(f"{archive}: not an archive that can be unpacked ({reason}); {OWN_COPY}") from error
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder

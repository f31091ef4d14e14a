"""Fetch a public corpus, or unpack a copy of it that is already on this machine; every hash is checked or printed."""

import lzma
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

import pooch

from cry_lightning.console import UserError
from cry_lightning.download.published import MOST_BYTES, MOST_FILES, SOURCES
from cry_lightning.files import nfc

UNPACKABLE = (  # an archive that is damaged, of an odd compression, or encrypted after all
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
OWN_COPY = "get a copy by other means, and give it by --from PATH"


def run(corpus: str, to: Path | None, local: Path | None, sha256: str | None, accept_unverified: bool) -> Path:
    """Run the command `download`; returns the folder made."""
    source, to = SOURCES[corpus], to or Path("data") / corpus
    if source.on_request is not None and local is None:
        raise UserError(
            f"{corpus}: its owners hand it out on request, see {source.url}; {to} is to hold {source.on_request},"
            " put there by hand or by --from ARCHIVE"
        )
    check_form(sha256)
    expected = sha256 or (None if accept_unverified else source.sha256)
    if expected is None and local is None and not accept_unverified:
        raise UserError(
            f"{corpus}: no sha256 to check it by: {source.without_hash or 'none is published'}; give --sha256 HASH"
            " or --accept-unverified"
        )
    fetch(source.url, to, local, expected, source.recordings)
    print(f"{corpus} ({source.licence}): the recordings are at {to / source.recordings}")
    return to


def fetch(url: str, to: Path, local: Path | None = None, sha256: str | None = None, recordings: str = ".") -> None:
    """Make the folder `to` from the archive at a URL, or from a local archive or folder; all of it or nothing.

    Args:
        url: of the archive.
        to: the folder.
        local: archive or folder to take instead.
        sha256: of the archive; None: it is printed.
        recordings: folder that it must hold.

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
            shutil.copytree(local, tree, ignore=_loops)
        else:
            archive = downloaded(url, part) if local is None else local
            check(archive, sha256, local or url)
            tree = _extracted(archive, tree)
        if not (tree / recordings).is_dir():
            raise UserError(f"{local or url}: holds no folder {recordings}, so it is no copy of this corpus")
        tree.rename(to)
    except OSError as error:
        raise UserError(f"{local or url}: cannot be fetched to {to} ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _loops(folder: str, names: list[str]) -> list[str]:
    """Links that lead back to a folder around them."""
    around = [Path(folder).resolve(), *Path(folder).resolve().parents]
    return [name for name in names if Path(folder, name).is_symlink() and Path(folder, name).resolve() in around]


def downloaded(url: str, folder: Path, own_copy: str = OWN_COPY) -> Path:
    """The file at a URL, in a folder, by the name that it has there.

    Args:
        url: of the file.
        folder: where it is written.
        own_copy: how to give a copy that is on this machine, for the message.

    Raises:
        UserError: it cannot be had.
    """
    pooch.get_logger().setLevel("WARNING")  # it would advise to copy the hash it found into the code
    name, bar = (
        PurePosixPath(unquote(urlsplit(url).path)).name,
        sys.stderr.isatty(),
    )  # as other bars, for a terminal alone
    try:
        return Path(pooch.retrieve(url, known_hash=None, path=folder, fname=name, progressbar=bar))
    except OSError as error:
        cause: BaseException = error
        while cause.__context__:  # what went wrong is innermost, and around it objects of libraries
            cause = cause.__context__
        reason = str(cause).partition(" for url")[0]
        raise UserError(f"{url}: cannot be downloaded ({reason}); {own_copy}") from error


def check_form(sha256: str | None) -> None:
    """Refuse, before a download, what no file has for a SHA-256.

    Raises:
        UserError: it is not 64 hexadecimal digits.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"--sha256 {sha256}: a SHA-256 has 64 digits and letters a to f; correct it")


def check(file: Path, expected: str | None, origin: str | Path) -> None:
    """Refuse a file that has another hash than this SHA-256, or "md5:" and MD5; without one, print what it has.

    Args:
        file: to be checked.
        expected: the hash.
        origin: path or URL that it is from, for the message.

    Raises:
        UserError: it has another, or is not there.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file or folder")
    if expected is None:
        print(f"{file.name}: sha256 {pooch.file_hash(file)}, not verified")
        return
    kind, digest = ("md5", expected[4:]) if expected.startswith("md5:") else ("sha256", expected)
    if (found := pooch.file_hash(file, alg=kind)) != digest.lower():
        raise UserError(
            f"{origin}: {kind} is {found}, expected {digest}; damaged or another version: get it again, or take it"
            " as it is by --accept-unverified, without --sha256"
        )


def _extracted(archive: Path, folder: Path) -> Path:
    """Unpack an archive; the folder that holds everything is the one it returns."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                _refuse_unsafe_zip(archive, bundle)
                _refuse_bomb(archive, [(entry.filename, entry.file_size) for entry in bundle.infolist()])
                bundle.extractall(folder)
        else:
            with tarfile.open(archive) as bundle:
                _refuse_bomb(archive, ((member.name, member.size) for member in bundle))
                bundle.extractall(folder, filter=_only_files)
    except UserError:
        raise
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: unsafe, {error}") from error
    except UNPACKABLE as error:
        reason = str(error).partition(":\n")[0]  # after it, one of each compression
        raise UserError(f"{archive}: not an archive that can be unpacked ({reason}); {OWN_COPY}") from error
    inside = list(folder.iterdir()) if folder.exists() else []
    if not inside:
        raise UserError(f"{archive}: an empty archive; {OWN_COPY}")
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _refuse_bomb(archive: Path, entries: Iterable[tuple[str, int]]) -> None:
    """Refuse an archive of more, or larger, files than any corpus has, or with one name twice; see MOST_FILES."""
    unpacked, seen = 0, set()
    for number, (name, size) in enumerate(entries, 1):
        unpacked += size
        place = nfc(str(PurePosixPath(name))).casefold()
        if number > MOST_FILES or unpacked > MOST_BYTES:
            raise UserError(
                f"{archive}: unpacks to more than {MOST_FILES:,} files or {MOST_BYTES // 10**9} GB, as no corpus here;"
                f" {OWN_COPY}"
            )
        if place in seen and not name.endswith("/"):
            raise UserError(f"{archive}: unsafe, holds {name!r} twice, and one would replace the other")
        seen.add(place)


def _refuse_unsafe_zip(archive: Path, bundle: zipfile.ZipFile) -> None:
    for entry in bundle.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or PureWindowsPath(entry.filename).drive:
            raise UserError(f"{archive}: unsafe, wants to write outside of its folder at {entry.filename}")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{archive}: unsafe, {entry.filename} is a link or a device, and no file")
        if entry.flag_bits & 1:
            raise UserError(f"{archive}: {entry.filename} is encrypted; unpack it yourself, and {OWN_COPY}")


def _only_files(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Files and folders inside of the folder; a corpus has no links, and one may lead to itself."""
    if not (member.isfile() or member.isdir()):
        raise tarfile.SpecialFileError(member)
    if PureWindowsPath(member.name).drive or "\\" in member.name:
        raise tarfile.AbsolutePathError(member)
    return tarfile.data_filter(member, folder)

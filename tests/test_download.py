"""Downloads: whole, verified and safe, or nothing."""

import hashlib
import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cry_lightning.__main__ import run as command
from cry_lightning.console import UserError
from cry_lightning.download import archives
from cry_lightning.download.published import Source


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "site" / "corpus-1.0.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("corpus-1.0/recordings/a.wav", b"sound")
        bundle.writestr("corpus-1.0/README", b"read me")
    return path


@pytest.fixture
def known(archive, monkeypatch) -> str:
    """A corpus `known`, served on this machine, with its hash in the table; `unknown` is the same without."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(archive.parent)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    for name, known_hash in {"known": sha256, "unknown": None}.items():
        monkeypatch.setitem(archives.SOURCES, name, Source(url, known_hash, "recordings", "CC0"))
    yield sha256
    server.shutdown()
    server.server_close()


@pytest.fixture
def to(tmp_path) -> Path:
    return tmp_path / "data" / "corpus"


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_download_unpacks_what_the_hash_vouches_for(known, to, capsys):
    command("download", ["known", "--to", str(to)])
    assert (to / "recordings" / "a.wav").read_bytes() == b"sound" and left_in(to.parent) == ["corpus"]
    assert str(to / "recordings") in capsys.readouterr().out


def test_a_wrong_hash_leaves_nothing(known, to):
    with pytest.raises(UserError, match=rf"^http://.*: sha256 is {known}, expected 0+; .*: get it again, or take it"):
        command("download", ["known", "--to", str(to), "--sha256", "0" * 64])
    with pytest.raises(UserError, match="--sha256 abc: a SHA-256 has 64 digits"):
        command("download", ["known", "--to", str(to), "--sha256", "abc"])
    assert left_in(to.parent) == []


def test_without_a_known_hash_one_must_be_given_or_waived(known, to, capsys):
    with pytest.raises(UserError, match="--accept-unverified"):
        command("download", ["unknown", "--to", str(to)])
    command("download", ["unknown", "--to", str(to), "--sha256", known.upper()])
    command("download", ["unknown", "--to", f"{to}2", "--accept-unverified"])
    assert f"sha256 {known}, not verified" in capsys.readouterr().out


def test_nothing_is_overwritten_and_what_a_killed_run_left_does_not_matter(known, to):
    to.with_name("corpus.part").mkdir(parents=True)
    (to.with_name("corpus.part") / "half").write_bytes(b"")
    command("download", ["known", "--to", str(to)])
    (to / "own.txt").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        command("download", ["known", "--to", str(to)])
    assert (to / "own.txt").read_text() == "mine" and left_in(to.parent) == ["corpus"]


def test_a_local_archive_or_folder_instead(known, archive, to):
    command("download", ["known", "--from", str(archive), "--to", str(to)])
    command("download", ["unknown", "--from", str(to), "--to", f"{to}2"])
    assert Path(f"{to}2", "recordings", "a.wav").read_bytes() == b"sound" and archive.exists()
    archive.write_bytes(archive.read_bytes() + b"changed")
    with pytest.raises(UserError, match="expected"):
        command("download", ["known", "--from", str(archive), "--to", f"{to}3"])
    with pytest.raises(UserError, match="no such file"):
        command("download", ["known", "--from", "nowhere.zip", "--to", f"{to}3"])
    assert sorted(left_in(to.parent)) == ["corpus", "corpus2"]


def test_an_unreachable_address_is_told(known, to, monkeypatch):
    for url in ("http://127.0.0.1:9/x.zip", archives.SOURCES["known"].url + ".gone"):
        monkeypatch.setitem(archives.SOURCES, "known", Source(url, known, ".", "CC0"))
        reason = "404 Client Error.*" if url.endswith(".gone") else r"\[Errno \d+\] Connection refused"
        with pytest.raises(UserError, match=rf"^{url}: cannot be downloaded \({reason}\); .* by --from PATH$"):
            command("download", ["known", "--to", str(to)])
    assert left_in(to.parent) == []


def tar_with(path: Path, name: str, link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        member = tarfile.TarInfo(name)
        member.size = 0 if link else 4
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        bundle.addfile(member, None if link else io.BytesIO(b"evil"))
    return path


@pytest.mark.parametrize("kind", ["tar up", "tar link", "zip up", "zip absolute", "text", "cut tar"])
def test_unsafe_or_damaged_archives_are_refused(tmp_path, to, kind):
    path = tmp_path / "archive"
    if kind.startswith("zip"):
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("../../evil" if kind == "zip up" else f"{tmp_path}/evil", b"evil")
    elif kind == "text":
        path.write_text("<html>rate limit exceeded</html>")
    elif kind == "cut tar":
        path.write_bytes(tar_with(path, "recordings/a.wav").read_bytes()[:-20])
    else:
        tar_with(path, "../../evil" if kind == "tar up" else "a", "/etc" if kind == "tar link" else None)
    with pytest.raises(UserError, match=rf"^{path}: [^\n]+$"):
        archives.fetch("http://unused", to, local=path)
    assert left_in(to.parent) == [] and not list(tmp_path.rglob("evil"))


def test_a_tar_without_a_top_folder_keeps_its_layout(tmp_path, to):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as bundle:
        for name in ("./yes/1.wav", "./no/2.wav"):
            member = tarfile.TarInfo(name)
            member.size = 5
            bundle.addfile(member, io.BytesIO(b"sound"))
    archives.fetch("http://unused", to, local=tmp_path / "a.tar.gz")
    assert sorted(left_in(to)) == ["no", "yes"]


@pytest.mark.parametrize("args", [[], ["nothing"], ["fsdd", "--too", "x"]])
def test_wrong_arguments_are_one_line_with_the_way_to_help(args):
    with pytest.raises(UserError, match=r"^[^\n]+; see python -m cry_lightning download --help$"):
        command("download", args)


def test_every_shipped_source_is_whole():
    for source in archives.SOURCES.values():
        assert source.url.startswith("http") and source.licence
        assert source.sha256 is None or len(bytes.fromhex(source.sha256)) == 32


def zip_with(path: Path, change=None, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in entries.items():
            info = zipfile.ZipInfo(f"corpus/{name}")
            if change:
                change(info)
            bundle.writestr(info, content)
    return path


def a_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o120777 << 16


def encrypted(path: Path) -> Path:
    """An archive that says of its file that it needs a password."""
    content = bytearray(zip_with(path, a=b"sound").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    return path


def oddly_compressed(path: Path) -> Path:
    content = bytearray(zip_with(path, a=b"sound").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + offset] = 97
    path.write_bytes(content)
    return path


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as bundle:
        for member in members:
            bundle.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


HOSTILE = {
    "encrypted": (encrypted, "is encrypted; unpack it yourself"),
    "odd": (oddly_compressed, "not an archive that can be unpacked"),
    "zip link": (lambda path: zip_with(path, a_link, a=b"/etc/passwd"), "is a link or a device"),
    "zip drive": (lambda path: tar_of(path, member("C:\\evil", size=1)), "unsafe"),
    "self link": (lambda path: tar_of(path, member("a", tarfile.SYMTYPE, ".")), "unsafe"),
    "hard link": (lambda path: tar_of(path, member("b", size=1), member("a", tarfile.LNKTYPE, "b")), "unsafe"),
    "device": (lambda path: tar_of(path, member("a", tarfile.CHRTYPE)), "unsafe"),
    "fifo": (lambda path: tar_of(path, member("a", tarfile.FIFOTYPE)), "unsafe"),
    "twice": (lambda path: tar_of(path, member("a", size=1), member("A", size=2)), "twice"),
    "empty": (lambda path: tar_of(path), "an empty archive"),
    "foreign": (lambda path: zip_with(path, b=b"sound"), "holds no folder recordings"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_one_line_and_leave_nothing(tmp_path, to, kind):
    make, told = HOSTILE[kind]
    with pytest.raises(UserError, match=rf"^[^\n]*{told}[^\n]*$"):
        archives.fetch("http://unused", to, local=make(tmp_path / "archive"), recordings="recordings")
    assert left_in(to.parent) == []


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_BYTES"])
def test_archives_that_would_fill_the_disk_are_not_unpacked(tmp_path, to, monkeypatch, limit):
    monkeypatch.setattr(archives, limit, 1)
    for archive in (
        zip_with(tmp_path / "z", a=b"xx", b=b"xx"),
        tar_of(tmp_path / "t", member("a"), member("b", size=9)),
    ):
        with pytest.raises(UserError, match=rf"^{archive}: unpacks to more than"):
            archives.fetch("http://unused", to, local=archive)
    assert left_in(to.parent) == []


def test_a_folder_that_links_to_itself_is_copied_once(tmp_path, to):
    folder = tmp_path / "own"
    (folder / "recordings").mkdir(parents=True)
    (folder / "recordings" / "a.wav").write_bytes(b"sound")
    (folder / "recordings" / "again").symlink_to(folder)
    archives.fetch("http://unused", to, local=folder)
    assert [path.name for path in to.rglob("*")] == ["recordings", "a.wav"]


def test_help_says_which_corpus_has_no_hash_and_why(capsys):
    with pytest.raises(SystemExit):
        command("download", ["--help"])
    told = capsys.readouterr().out
    for name, source in archives.SOURCES.items():
        line = next(line for line in told.splitlines() if line.strip().startswith(f"{name}: "))
        assert ("sha256 known" in line) == (source.sha256 is not None)
        assert source.sha256 or source.on_request or (source.without_hash in line and source.without_hash)

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

from cry_lightning.corpora import download
from cry_lightning.errors import UserError


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
        monkeypatch.setitem(download.SOURCES, name, download.Source(url, known_hash, "recordings", "CC0"))
    yield sha256
    server.shutdown()
    server.server_close()


@pytest.fixture
def to(tmp_path) -> Path:
    return tmp_path / "data" / "corpus"


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_download_unpacks_what_the_hash_vouches_for(known, to, capsys):
    download.main(["known", "--to", str(to)])
    assert (to / "recordings" / "a.wav").read_bytes() == b"sound" and left_in(to.parent) == ["corpus"]
    assert str(to / "recordings") in capsys.readouterr().out


def test_a_wrong_hash_leaves_nothing(known, to):
    with pytest.raises(UserError, match=known):
        download.main(["known", "--to", str(to), "--sha256", "0" * 64])
    assert left_in(to.parent) == []


def test_without_a_known_hash_one_must_be_given_or_waived(known, to, capsys):
    with pytest.raises(UserError, match="--accept-unverified"):
        download.main(["unknown", "--to", str(to)])
    download.main(["unknown", "--to", str(to), "--sha256", known.upper()])
    download.main(["unknown", "--to", f"{to}2", "--accept-unverified"])
    assert f"sha256 {known}, not verified" in capsys.readouterr().out


def test_nothing_is_overwritten_and_what_a_killed_run_left_does_not_matter(known, to):
    to.with_name("corpus.part").mkdir(parents=True)
    (to.with_name("corpus.part") / "half").write_bytes(b"")
    download.main(["known", "--to", str(to)])
    (to / "own.txt").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        download.main(["known", "--to", str(to)])
    assert (to / "own.txt").read_text() == "mine" and left_in(to.parent) == ["corpus"]


def test_a_local_archive_or_folder_instead(known, archive, to):
    download.main(["known", "--from", str(archive), "--to", str(to)])
    download.main(["unknown", "--from", str(to), "--to", f"{to}2"])
    assert Path(f"{to}2", "recordings", "a.wav").read_bytes() == b"sound" and archive.exists()
    archive.write_bytes(archive.read_bytes() + b"changed")
    with pytest.raises(UserError, match="expected"):
        download.main(["known", "--from", str(archive), "--to", f"{to}3"])
    with pytest.raises(UserError, match="no such file"):
        download.main(["known", "--from", "nowhere.zip", "--to", f"{to}3"])
    assert sorted(left_in(to.parent)) == ["corpus", "corpus2"]


def test_an_unreachable_address_is_told(known, to, monkeypatch):
    for url in ("http://127.0.0.1:9/x.zip", download.SOURCES["known"].url + ".gone"):
        monkeypatch.setitem(download.SOURCES, "known", download.Source(url, known, ".", "CC0"))
        reason = "404 Client Error.*" if url.endswith(".gone") else r"\[Errno \d+\] Connection refused"
        with pytest.raises(UserError, match=rf"^{url}: cannot be downloaded \({reason}\); .* by --from PATH$"):
            download.main(["known", "--to", str(to)])
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
        download.fetch("http://unused", to, local=path)
    assert left_in(to.parent) == [] and not list(tmp_path.rglob("evil"))


def test_a_tar_without_a_top_folder_keeps_its_layout(tmp_path, to):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as bundle:
        for name in ("./yes/1.wav", "./no/2.wav"):
            member = tarfile.TarInfo(name)
            member.size = 5
            bundle.addfile(member, io.BytesIO(b"sound"))
    download.fetch("http://unused", to, local=tmp_path / "a.tar.gz")
    assert sorted(left_in(to)) == ["no", "yes"]


@pytest.mark.parametrize("args", [[], ["nothing"], ["fsdd", "--too", "x"]])
def test_wrong_arguments_are_one_line_with_the_way_to_help(args):
    with pytest.raises(UserError, match=r"^[^\n]+; see python -m cry_lightning download --help$"):
        download.main(args)


def test_every_shipped_source_is_whole():
    for source in download.SOURCES.values():
        assert source.url.startswith("http") and source.licence
        assert source.sha256 is None or len(bytes.fromhex(source.sha256)) == 32

"""weights: published files by name, fetched or given, verified and imported; or nothing is written."""

import hashlib
import re
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
import yaml
from made import DATA, REPO
from safetensors.torch import save_file
from test_download import QuietHandler
from test_import_weights import WIDTH, published_weights

import cry_lightning as cry
from cry_lightning.__main__ import main
from cry_lightning.download import published
from cry_lightning.download.published import WEIGHTS, Weights
from cry_lightning.download.weights import places

MN04 = DATA / ".." / "weights" / "efficientat" / "mn04_as_mAP_432.pt"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of published files, and the URL at which this machine serves it."""
    folder = tmp_path_factory.mktemp("site")
    torch.save(published_weights("norm", "cnn6"), folder / "embedding model.ckpt")
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "plain.pth")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def digests(site, tmp_path, monkeypatch):
    """SHA-256 and MD5 of the file that WEIGHTS has as `sha`, `md5` and `none` (no hash known); timm's is `plain`."""
    folder, url = site
    content = (folder / "embedding model.ckpt").read_bytes()
    sha, md5 = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    known = {"sha": sha, "md5": f"md5:{md5}", "none": None}
    for name, digest in known.items():
        weights = Weights(f"{url}/embedding%20model.ckpt?download=1", name, 1, digest, "CC0", "speechbrain", "cnn6")
        monkeypatch.setitem(published.WEIGHTS, name, weights)
    plain = Weights(f"{url}/plain.pth", "", None, None, "CC0", None, "test_resnet")
    monkeypatch.setitem(published.WEIGHTS, "plain", plain)
    monkeypatch.chdir(tmp_path)
    return sha, md5


def refused(capsys, *args: str) -> str:
    assert main(["weights", *args]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and not list(Path().rglob("*.ckpt"))
    return error


@pytest.mark.parametrize("name", ["sha", "md5"])
def test_a_file_is_fetched_verified_and_imported_with_its_hash(name, digests, capsys):
    assert main(["weights", "get", name]) == 0
    made = torch.load(f"runs/weights/{name}.ckpt", weights_only=True)
    assert made["source"] == {"publisher": "speechbrain", "file": "embedding model.ckpt", "sha256": digests[0]}
    assert all(key.startswith("encoder.") for key in made["state_dict"])
    assert "not verified" not in capsys.readouterr().out
    assert "exists already" in (main(["weights", "get", name]) and capsys.readouterr().err)


def test_without_a_known_hash_it_must_be_accepted_and_is_recorded(digests, capsys):
    sha, _ = digests
    assert "none: sha256 not known" in refused(capsys, "get", "none")
    assert main(["weights", "get", "none", "--to", "own.ckpt", "--accept-unverified"]) == 0
    assert f"embedding model.ckpt: sha256 {sha}, not verified" in capsys.readouterr().out
    assert torch.load("own.ckpt", weights_only=True)["source"]["sha256"] == sha
    Path("own.ckpt").unlink()
    error = refused(capsys, "get", "none", "--sha256", "0" * 64)
    assert f"/embedding%20model.ckpt?download=1: sha256 is {sha}, expected {'0' * 64}" in error
    assert error.rstrip().endswith("get it again, or take it as it is by --accept-unverified, without --sha256")
    assert "--sha256 abc: a SHA-256 has 64 digits" in refused(capsys, "get", "none", "--sha256", "abc")
    assert cry.weights("get", "none", sha256=sha.upper()) == {"none": Path("runs/weights/none.ckpt")}


def test_a_local_file_instead(digests, site, capsys):
    own, plain = site[0] / "embedding model.ckpt", site[0] / "plain.pth"
    assert "none: sha256 not known" in refused(capsys, "get", "none", "--file", str(own))
    assert cry.weights("get", "sha", file=own, to="own/sha.ckpt") == {"sha": Path("own/sha.ckpt")}
    made = cry.weights("get", ["plain"], file=plain, accept_unverified=True)["plain"]
    assert made.read_bytes() == plain.read_bytes()
    Path("own/sha.ckpt").unlink()
    Path("other.bin").write_bytes(b"other")
    for name, kind in (("sha", "sha256"), ("md5", "md5")):
        error = refused(capsys, "get", name, "--file", "other.bin")
        assert f"other.bin: {kind} is " in error and "damaged or another version" in error
    assert "nowhere.pt: no such file of weights" in refused(capsys, "get", "sha", "--file", "nowhere.pt")


class Code:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "empty file|no safetensors"),
        ("page", "text, and not|no safetensors"),
        ("half", "not a whole file|no safetensors"),
        ("code", "holds more than data|no safetensors"),
        ("other", "not the weights of test_resnet: .*patch_embed.proj.weight is left over|is missing"),
        ("nan", "not the weights of test_resnet: fc.bias holds NaN or infinity"),
    ],
)
def test_what_timm_is_to_read_must_be_its_network(kind, message, ending, digests, site, capsys, monkeypatch):
    named = Weights(f"http://127.0.0.1:9/plain{ending}", "", None, None, "CC0", None, "test_resnet")
    monkeypatch.setitem(published.WEIGHTS, "plain", named)
    save = save_file if ending == ".safetensors" else torch.save
    tensors = torch.load(site[0] / "plain.pth")
    if kind == "other":
        tensors = timm.create_model("test_vit").state_dict()
    if kind == "nan":
        tensors["fc.bias"][0] = torch.nan
    save(tensors, "file")
    whole = Path("file").read_bytes()
    contents = {"empty": b"", "page": b"<html>not found</html>", "half": whole[: len(whole) // 2]}
    Path("file").write_bytes(contents.get(kind, whole))
    if kind == "code":
        torch.save({"fc.bias": Code()}, "file")
    error = refused(capsys, "get", "plain", "--file", "file", "--to", f"made/w{ending}", "--accept-unverified")
    assert re.search(f"error: file: .*({message})", error) and [path.name for path in Path().iterdir()] == ["file"]


def test_what_timm_is_to_read_is_named_by_its_kind(digests, site, capsys):
    args = ["get", "plain", "--file", str(site[0] / "plain.pth"), "--to", "made.safetensors", "--accept-unverified"]
    assert "let it end in .pth" in refused(capsys, *args) and not Path("made.safetensors").exists()


def test_other_weights_do_not_get_the_name(digests, site, capsys, monkeypatch):
    of_width = partial(Weights, "http://127.0.0.1:9/x.ckpt", "", None, None, "CC0", "speechbrain", "cnn6")
    for name, width in (("wide", 2 * WIDTH), ("narrow", WIDTH)):
        monkeypatch.setitem(published.WEIGHTS, name, of_width({"width": width}))
    own = ["--file", str(site[0] / "embedding model.ckpt"), "--accept-unverified"]
    assert f"not those weights: its width is {WIDTH}, theirs is {2 * WIDTH}" in refused(capsys, "get", "wide", *own)
    assert main(["weights", "get", "narrow", *own]) == 0
    widths = {name: weights.sizes.get("width_mult") for name, weights in WEIGHTS.items() if "mn" in name}
    assert widths == {"efficientat-mn04": 0.4, "efficientat-mn10": 1.0}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["get"], "nothing is named; there are vggish, panns-cnn14"),
        (["get", "vgish"], "weights get: vgish; there are vggish"),
        (["get", "sha", "md5", "--to", "x.ckpt"], "name one at a time"),
        (["list", "vggish"], "takes no further arguments"),
        (["fetch"], "invalid choice: 'fetch'"),
    ],
)
def test_what_makes_no_sense_is_refused(args, message, digests, capsys):
    assert message in refused(capsys, *args)


def test_an_unreachable_address_is_reported_with_the_way_out(digests, monkeypatch, capsys):
    gone = Weights("http://127.0.0.1:9/x.pth", "", None, "0" * 64, "CC0", "vggish")
    monkeypatch.setitem(published.WEIGHTS, "sha", gone)
    assert re.search(
        r"x\.pth: cannot be downloaded .*; get a copy by other means, and give it by --file PATH",
        refused(capsys, "get", "sha"),
    )


def test_the_list_has_url_size_hash_and_licence_of_each(capsys):
    assert cry.weights("list") == places()
    printed = capsys.readouterr().out
    for name, weights in WEIGHTS.items():
        assert f"{name}\n  {weights}\n  {weights.url}\n  runs/weights/{name}{weights.suffix} is" in printed
        assert weights.url.startswith("https://")
        assert weights.digest is None or re.fullmatch("(md5:[0-9a-f]{32})|[0-9a-f]{64}", weights.digest)
        assert weights.digest is None or weights.digest.removeprefix("md5:") in printed
    assert f"VGGish, AudioSet; 289 MB; sha256 {WEIGHTS['vggish'].digest}; Apache 2.0" in printed
    assert "CNN10 at 32 kHz, AudioSet; 25 MB; md5 bfb1f1f9968938fa8ef4012b8471f5f6; CC BY 4.0" in printed
    assert "302 MB; sha256 not known: --accept-unverified; licence not stated" in printed


def test_what_recipes_need_of_them_is_where_the_command_puts_it():
    remedies = {}
    for path in REPO.glob("configs/papers/*/*.yaml"):
        for system in yaml.safe_load(path.read_text()).get("systems", {}).values():
            remedies |= system.get("needs", {})
    assert len(remedies) == 5
    for path, remedy in remedies.items():
        name, *flags = remedy.removeprefix("python -m cry_lightning weights get ").split()
        assert places()[name] == Path(path)
        assert flags == ([] if WEIGHTS[name].digest else ["--accept-unverified"])


@pytest.mark.slow
@pytest.mark.skipif(not MN04.exists(), reason=f"no weights at {MN04}")
def test_a_released_file_has_the_hash_that_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = cry.weights("get", "efficientat-mn04", file=MN04)["efficientat-mn04"]
    checkpoint = torch.load(made, weights_only=True)
    assert checkpoint["source"]["sha256"] == WEIGHTS["efficientat-mn04"].digest and checkpoint["front_end"]

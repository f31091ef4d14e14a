"""`serve`: the answers of `predict` to a browser and to programs, whatever is sent."""

import io
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import anyio
import numpy as np
import pytest
import soundfile
import torch
import uvicorn
from exported import write_checkpoint
from fastapi import HTTPException
from fastapi.testclient import TestClient
from made import RATE, REPO, cry
from starlette.datastructures import Headers
from test_audio import encode
from test_export import NETWORKS

from cry_lightning.__main__ import run as command
from cry_lightning.api import models
from cry_lightning.audio import fit_to_length
from cry_lightning.audio.recording import open_reader
from cry_lightning.console import UserError
from cry_lightning.export.check import NOT_TESTED
from cry_lightning.lineage.check import ORDER
from cry_lightning.serving import guard
from cry_lightning.serving.app import MOST_BYTES, NO_FILE, app_of, is_loopback
from cry_lightning.serving.guard import Guard, Limits
from cry_lightning.serving.picture import maps, picture
from cry_lightning.serving.service import LONGEST_NAME, SHOWN_S, Service, saliency, shown_name
from cry_lightning.serving.words import WORDS

spec = spec_from_file_location("benchmark_of_serve", REPO / "benchmarks/serve.py")
benchmark = module_from_spec(spec)
spec.loader.exec_module(benchmark)
STAMPED = {status: status.lower().replace(" ", "_") for status in (*ORDER[1:], NOT_TESTED)}
LIMITS = Limits(max_mb=1, queue=2, per_minute=1000)


@pytest.fixture(scope="module")
def service(tested, tmp_path_factory):
    return Service(tested, "cpu", (), None, 20.0, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(service):
    with TestClient(app_of(service, LIMITS, ["testserver"], "en"), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def cries(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cries") / "cries.wav"
    soundfile.write(path, cry(1), RATE)
    return path


def sent(server, content: bytes, name: str = "a.wav", to: str = "api/predict", **query):
    return server.post(f"/{to}", files={"file": (name, content)}, params=query)


@pytest.mark.parametrize("detect", [False, True])
def test_rows_are_those_that_predict_writes(server, service, cries, tmp_path, detect):
    out = tmp_path / "out.json"
    ckpt = str(service.trained.path)
    command("predict", [str(cries), "--ckpt", ckpt, "--out", str(out), *(["--detect"] if detect else [])])
    answer = sent(server, cries.read_bytes(), "cries.wav", detect=detect)
    written, of_recordings = json.loads(out.read_text()), json.loads((tmp_path / "out_recordings.json").read_text())
    assert len(written) > 1 and answer.status_code == 200
    for got, expected in [(answer.json()["rows"], written), ([answer.json()["recording"]], of_recordings)]:
        assert [row | {"path": "x"} for row in got] == [row | {"path": "x"} for row in expected]
        assert {row["path"] for row in got} == {"cries.wav"}
    table = server.post(
        "/api/csv", json=[*answer.json()["rows"], dict.fromkeys(written[0]) | {"path": "=1+1"}]
    ).text.splitlines()
    assert table[0] == ",".join(written[0]) and table[-1].startswith("./=1+1,") and len(table) == len(written) + 2


def test_the_log_has_neither_names_of_recordings_nor_places_of_them(server, service, cries, caplog):
    """A recorder that was switched off leaves a header without a length, which is no mistake of the server's."""
    wav = bytearray(cries.read_bytes())
    wav[4:8] = wav[40:44] = bytes(4)
    assert sent(server, bytes(wav), "Emma.wav").json()["rows"] and not caplog.text
    path = service.place.with_name("elsewhere.wav")
    path.write_bytes(wav)
    with closing(open_reader(path)):
        assert "elsewhere.wav: its header promises 0.00 s" in caplog.text  # as it is where a name says something
    path.unlink()


def test_sounds_that_cannot_be_used_are_one_line_and_leave_no_file(server, service, cries):
    wav = cries.read_bytes()
    silence, long = service.place.with_name("silence.flac"), service.place.with_name("long.flac")
    soundfile.write(silence, np.zeros(RATE), RATE)
    soundfile.write(long, np.zeros(21 * RATE), RATE)
    contents = {"long.flac": long.read_bytes(), "silence.flac": silence.read_bytes(), "empty": b"", "text": b"no " * 99}
    silence.unlink(), long.unlink()
    told = [
        ("long.flac", r"long\.flac: longer than 20 s, the most that this server takes; cut it"),
        ("empty", "empty: the file is empty"),
        ("text", "text: cannot be decoded as sound"),
    ]
    for name, reason in told:
        for to in ("api/predict", "page/result"):
            answer = sent(server, contents[name], f"../../{name}", to, detect=False)
            assert answer.status_code == 422 and list(answer.json()) == ["detail"], (name, answer.text)
            assert re.match(reason, answer.json()["detail"]) and "\n" not in answer.json()["detail"]
    silent = [
        sent(server, contents["silence.flac"], "a.flac", to, detect=False) for to in ("api/predict", "page/result")
    ]
    assert silent[0].json()["recording"]["fault"] == "silent, every sample at 0 s is zero"
    assert WORDS["en"]["silent"] in silent[1].json()["html"] and not silent[1].json()["rows"]
    assert sent(server, wav).status_code == 200
    assert not list(service.place.parent.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[", "no JSON"),
        (b"[" * 99_999, "no JSON"),
        (b'{"path": "a"}', "no list of rows"),
        (b"[" + b"0," * 99_999 + b"0]", "row 1 has no path"),
        (b'[{"a": 1}]', "row 1 has no path"),
        (
            json.dumps([{"path": "a", f"k{n}": 1} for n in range(9999)]).encode(),
            "row 2 has other columns than the first",
        ),
        (b'[{"path": "a", "x": []}]', "row 1: x is no text and no number"),
    ],
)
def test_rows_that_make_no_table_are_refused_at_the_first(server, content, reason):
    answer = server.post("/api/csv", content=content)
    assert answer.status_code == 422 and answer.json()["detail"].startswith(reason)


def test_rows_are_limited_and_odd_texts_written(server, service):
    assert server.post("/api/csv", content=b"[]").text.strip() == "path"
    assert server.post("/api/csv", content=b'[{"path": "\\ud800"}]').status_code == 200
    large = TestClient(app_of(service, Limits(50, 2, 1000), ["testserver"], "en"))
    answer = large.post("/api/csv", content=b" " * (MOST_BYTES + 1))
    assert answer.status_code == 413 and "rows of more than 5 MB" in answer.json()["detail"]


def test_containers_that_are_known_by_their_ending_are_read(server, service, tmp_path):
    content = encode(tmp_path / "a.g722", cry(1), "g722", "g722", rate=16000).read_bytes()
    assert [sent(server, content, name).status_code for name in ("a.G722", "a.txt", "a.../g722")] == [200, 422, 422]
    assert not list(service.place.parent.iterdir())


def test_an_error_of_the_program_shows_no_traceback(server, service, cries, monkeypatch):
    def fail(*args):
        raise RuntimeError("secret")

    monkeypatch.setattr(service, "_decoded", fail)
    answer = sent(server, cries.read_bytes())
    assert (answer.status_code, list(answer.json())) == (500, ["detail"]) and "secret" not in answer.text
    assert not service.place.exists()


def test_names_of_uploads_are_shown_and_never_followed():
    assert shown_name("../../etc/passwd") == "passwd" and shown_name("C:\\sounds\\a.wav") == "a.wav"
    assert shown_name(None) == shown_name("") == shown_name("/") == "sound"
    assert shown_name("a\nb\x1b[2J.wav") == "a b [2J.wav"
    long = shown_name("ward 7, " + "x" * 999 + " night.wav")
    assert len(long) == LONGEST_NAME and re.fullmatch(r"ward 7, x+\.\.\.x+ night\.wav", long)
    assert shown_name("a\udc80.wav") == "a\\udc80.wav"
    assert shown_name("100%22%0D%0A%20%0a.wav") == '100" %20%0a.wav'


def test_one_recording_is_answered_at_a_time(server, cries):
    wav = cries.read_bytes()
    for to in ("api/predict", "page/result"):
        for names in (("file", "file"), ("file", "other")):
            answer = server.post(f"/{to}", files=[(name, ("a.wav", wav)) for name in names])
            assert answer.status_code == 422
            assert answer.json() == {"detail": "2 recordings in one request; send one at a time"}
        answer = server.post(f"/{to}", files={"file": ("a.wav", wav)}, data={"detect": "true"})
        told = "detect: the form has the file alone; arguments belong in the address, as ?detect=true"
        assert (answer.status_code, answer.json()["detail"]) == (422, told)
    answer = server.post("/api/predict", files={"file": ('5" "mattress".wav', wav)})
    assert answer.status_code == 200 and answer.json()["recording"]["path"] == '5" "mattress".wav'


def test_what_is_no_file_of_a_form_is_told_in_plain_words(server, cries):
    by_rfc_5987 = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''a.wav\r\n\r\n%b\r\n--x--\r\n"
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    for sent in (
        {"json": {"file": "/etc/passwd"}},
        {"data": {"file": "a.wav"}},
        {"files": {"file": (None, b"RIFF")}},
        {"content": by_rfc_5987 % cries.read_bytes(), "headers": multipart},
        {"content": cries.read_bytes()},
    ):
        answer = server.post("/api/predict", **sent)
        assert (answer.status_code, answer.json()["detail"]) == (422, f"body.file: {NO_FILE}"), sent


def test_a_damaged_file_is_as_long_as_its_header_has_it(server):
    whole = io.BytesIO()
    soundfile.write(whole, np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE), RATE, format="FLAC")
    forged = bytearray(whole.getvalue()[: len(whole.getvalue()) // 2])
    forged[21] |= 0x0F  # the highest bits of the number of samples: days of sound
    answer = sent(server, bytes(forged), "forged.flac")
    assert (answer.status_code, answer.json()["detail"][:31]) == (422, "forged.flac: longer than 20 s, ")


def test_the_page_shows_an_answer(server, service, cries):
    answer = sent(server, cries.read_bytes(), "<b>.wav", "page/result", language="de", width=390).json()
    html = answer["html"]
    assert "&lt;b&gt;.wav" in html and "<b>.wav" not in html
    assert 'role="img"' in html and 'viewBox="0 0 390 ' in html and html.count("data:image/png") == 2
    assert "Kalibrierte Wahrscheinlichkeit" in html and f"{WORDS['de']['units_cries']}: " in html
    assert html.count('class="unit"') == len(answer["rows"])
    decided = answer["said"].partition(" (")[0]
    assert decided in ("high", "low", "keine Entscheidung") and f"<strong>{decided}</strong>" in html
    unlike = sent(server, _wav(np.random.default_rng(0).normal(0, 0.2, 2 * RATE)), to="page/result").json()
    assert unlike["said"] == "no decision (unlike the training)" and WORDS["en"]["unlike"] in unlike["html"]
    assert "Windows" in unlike["html"]  # noise holds no cries


@pytest.mark.parametrize("status", [*ORDER, NOT_TESTED])
def test_the_stamp_and_synthetic_recordings_stand_beside_the_decision(service, cries, monkeypatch, status):
    for synthetic in (True, False):
        about = service.about() | {"lineage": status, "synthetic": synthetic}
        monkeypatch.setattr(service, "about", lambda about=about: about)
        with TestClient(app_of(service, LIMITS, ["testserver"], "de")) as client:
            html = sent(client, cries.read_bytes(), to="page/result").json()["html"]
        verdict = html.partition('class="verdict')[2].partition("</div>")[0]
        words = {key: str(WORDS["de"][key]) in verdict for key in ("synthetic", *STAMPED.values())}
        assert words == {"synthetic": synthetic} | {key: key == STAMPED.get(status) for key in STAMPED.values()}


def test_a_model_without_reference_shows_scores_that_are_no_probabilities(server, service, cries, monkeypatch):
    monkeypatch.setitem(vars(service.trained), "reference", None)
    answer = sent(server, cries.read_bytes(), to="page/result").json()
    assert answer["said"] == "no decision" and WORDS["en"]["no_reference"] in answer["html"]
    assert ">Score<" in answer["html"] and "Calibrated" not in answer["html"]


def test_cries_that_are_quieter_than_the_training_are_marked(server, service, cries, monkeypatch):
    for limit_db, marked in ((-50.0, False), (0.0, True)):
        monkeypatch.setitem(service.trained.cutting, "min_active_db", limit_db)
        answer = sent(server, cries.read_bytes(), to="page/result").json()
        n, html = len(answer["rows"]), answer["html"]
        assert n and f"{WORDS['en']['units_cries']}: {n}" in html
        assert html.count(f"({WORDS['en']['short_quiet']})") == n * marked
        assert (WORDS["en"]["quiet"].format(n=n, rows=n) in html) == marked


def test_a_short_cry_is_as_quiet_as_the_window_that_is_classified(service, tmp_path, monkeypatch):
    sound = np.zeros(3 * RATE)
    sound[RATE : RATE + RATE // 4] = 10 ** (-48 / 20) * np.sqrt(2) * np.sin(np.arange(RATE // 4))
    (tmp_path / "short.wav").write_bytes(_wav(sound))
    for name, value in (("window_s", 1.0), ("min_active_db", -50.0)):
        monkeypatch.setitem(service.trained.cutting, name, value)
    for of_windows in (False, True):
        monkeypatch.setattr(service.trained, "of_windows", of_windows)
        assert service._quiet(tmp_path / "short.wav", [(1.0, 1.25)]) == [of_windows]


def test_a_silent_recording_is_a_row_of_the_same_table(server, cries):
    answers = [sent(server, wav, to="page/result").json() for wav in (cries.read_bytes(), _wav(np.zeros(2 * RATE)))]
    table = server.post("/api/csv", json=[{"number": 1, **answer["recording"]} for answer in answers])
    lines = [line.split(",") for line in table.text.splitlines()]
    assert lines[0][:4] == ["number", "path", "windows", "units"] and "decision" in lines[0]
    assert [line[:2] for line in lines[1:]] == [["1", "a.wav"]] * 2 and lines[2][2:4] in (["0", ""], ["", "0"])
    framed = WORDS["en"]["framed"].partition("{")[0]
    assert [framed in answer["html"] for answer in answers] == [True, False]


def test_a_model_that_could_not_be_calibrated_shows_scores_and_says_why(server, service, cries, monkeypatch):
    known = service.trained.reference
    levels = {name: replace(one, slope=np.nan) for name, one in known.levels.items()}
    monkeypatch.setitem(vars(service.trained), "reference", replace(known, levels=levels))
    answer = sent(server, cries.read_bytes(), to="page/result").json()
    assert answer["said"].startswith("no decision") and WORDS["en"]["uncalibrated"] in answer["html"]
    assert ">Score<" in answer["html"] and "Calibrated" not in answer["html"] and "Unlikeness" in answer["html"]
    assert service.about()["thresholds"] is None


def _wav(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format="WAV")
    return file.getvalue()


def test_the_page_is_whole_in_each_language_and_fetches_nothing(server, service):
    for language, words in WORDS.items():
        page = server.get("/", params={"language": language})
        assert f'<html lang="{language}">' in page.text and str(words["use"]) in page.text.replace("&#39;", "'")
        for field in re.findall(r'<input id="(\w+)"', page.text):
            assert f'for="{field}"' in page.text or re.search(rf'<label><input id="{field}"', page.text), field
        texts = page.text + server.get("/assets/page.css").text + server.get("/assets/page.js").text
        assert not re.findall(r"https?://|//\w+\.\w+/", texts) and "built-in" not in texts
        assert "default-src 'self'" in page.headers["content-security-policy"]
        body = page.text.partition("<body")[2]
        outside = body.partition("<main>")[0] + body.partition("</main>")[2]
        assert (
            "<p" not in outside and "<th></th>" not in body and '<ul id="errors" role' not in body
        )  # as axe-core asks
        assert re.search(rf'<p id="unplayable"[^>]* hidden>{words["cannot_play"]}<', body)
        assert re.search(r'at\("player"\)\.addEventListener\("error"', texts)
        landmarks = re.findall(r'(?:<section|role="region")[^>]* aria-labelledby="([^"]+)"', body)
        assert len(landmarks) == len(set(landmarks)) > 3
    assert server.get("/assets/result.html").status_code == server.get("/docs").status_code == 404
    assert server.get("/", params={"language": "xx"}).status_code == 422


def test_both_languages_have_the_same_words():
    (_, one), (_, other) = WORDS.items()
    assert list(one) == list(other)
    for key in one:
        assert type(one[key]) is type(other[key]) and len(one[key]) > 0, key
        fields = [sorted(re.findall(r"{\w+}", str(words[key]))) for words in (one, other)]
        assert fields[0] == fields[1], key
    assert len(one["can"]) == len(other["can"])
    for words, infant in ((one, "infant"), (other, "Säugling")):  # models of spoken words are served, too
        assert [key for key, text in words.items() if infant in str(text)] == ["synthetic"]


def test_programs_find_what_they_need(server, service):
    assert server.get("/api/health").json() == {"status": "ok"}
    about = server.get("/api/model").json()
    assert about["classes"] == ["high", "low"] and about["max_mb"] == 1 and set(about["thresholds"]) == {"high", "low"}
    paths = server.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/predict", "/api/health", "/api/model", "/api/csv"}
    told = {"400", "403", "408", "413", "422", "429", "500", "503"}
    assert set(paths["/api/predict"]["post"]["responses"]) == {"200", *told}
    documented = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", (REPO / "docs/serve.md").read_text(), re.MULTILINE)
    assert {status for row in documented for status in row.split(", ")} == told
    for path in ("/", "/api/health", "/api/model", "/assets/page.js"):
        asked, seen = server.head(path), server.get(path)
        assert (asked.status_code, asked.headers["content-type"]) == (200, seen.headers["content-type"])


def test_pages_of_elsewhere_cannot_use_it(server, cries):
    wav = cries.read_bytes()
    for host in ("evil.example", "evil.example:80", "", "[::", "testserver.evil.example"):
        for request in (partial(server.get, "/api/model"), partial(server.post, "/api/csv", content=b"[]")):
            answer = request(headers={"host": host})
            assert answer.status_code == 400 and "this server is not called" in answer.json()["detail"]
    assert server.get("/api/model", headers={"host": "TESTSERVER:7860"}).status_code == 200
    for origin, status in [("http://evil.example", 403), ("null", 403), ("http://[", 403), ("http://testserver", 200)]:
        answer = server.post("/api/predict", files={"file": ("a.wav", wav)}, headers={"origin": origin})
        assert answer.status_code == status, answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_too_much_is_refused_before_it_is_read(server):
    answer = sent(server, bytes(1_200_000))
    assert (answer.status_code, answer.json()) == (413, {"detail": "more than 1 MB; cut it, or raise --max-mb"})


def ask(limits: Limits, length: int | None = None, pieces=(b"",), guard: Guard | None = None, slow=None):
    """Status of a POST in such pieces through a guard, whether each piece was read, and how many were."""

    async def app(scope, receive, send):
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        if slow:
            await slow()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    taken, status = [], []

    async def receive():
        taken.append(1)
        return {"type": "http.request", "body": pieces[len(taken) - 1], "more_body": len(taken) < len(pieces)}

    async def send(message):
        status.append(message.get("status"))

    headers = [(b"host", b"testserver")]
    headers += [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "headers": headers, "client": ("127.0.0.1", 1)}
    return (guard or Guard(app, limits, ["testserver"]))(scope, receive, send), status, taken


def test_the_guard_reads_no_more_than_it_may():
    answer, status, taken = ask(LIMITS, length=2_000_000, pieces=[b"x"] * 9)
    anyio.run(lambda: answer)
    assert status[0] == 413 and not taken
    endless, status, taken = ask(LIMITS, pieces=[bytes(400_000)] * 9)  # names no length
    with pytest.raises(Exception, match="more than 1 MB"):
        anyio.run(lambda: endless)
    assert len(taken) == 3


def test_the_guard_counts_requests():
    class Slow:
        async def __call__(self, scope, receive, send):
            await receive()
            await self.gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def run():
        slow = Slow()
        slow.gate = anyio.Event()
        guard = Guard(slow, Limits(1, 2, 4), ["testserver"])
        asked = [ask(guard.limits, guard=guard) for _ in range(5)]
        async with anyio.create_task_group() as tasks:
            for answer, _, _ in asked:
                tasks.start_soon(lambda coroutine: coroutine, answer)
                await anyio.sleep(0.01)
            slow.gate.set()
        return [status[0] for _, status, _ in asked]

    assert anyio.run(run) == [200, 200, 503, 503, 429]


def coming(request: guard._Request) -> Callable[[], Coroutine]:
    """Takes all that comes of a request."""

    async def run():
        while not request.incoming.whole:
            await request()

    return run


def test_of_five_uploads_at_once_the_four_that_fit_come_in():
    kept = Guard(None, Limits(max_mb=1, queue=9, per_minute=9), ["testserver"])

    def request(client: str) -> guard._Request:
        left = [11]  # pieces of 100 kB: as large as one may be

        async def receive():
            await anyio.sleep(0)  # the others' turn
            left[0] -= 1
            return {"type": "http.request", "body": bytes(100_000), "more_body": left[0] > 0}

        return guard._Request(kept, guard._Incoming(receive, kept.limits), client)

    async def run():
        refused = []

        async def send(one: guard._Request):
            try:
                await coming(one)()
            except HTTPException as error:
                refused.append(error.status_code)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(send, request(f"10.0.0.{number % 3}"))
        return refused

    assert anyio.run(run) == [503] and kept.waiting == 4


def test_bodies_that_still_come_take_no_place_and_little_room():
    limits = Limits(max_mb=0.1, queue=1, per_minute=9)  # 200 kB a request, with what is around a file
    kept = Guard(None, limits, ["testserver"])
    gates = []

    def request(n_pieces: int, gate: anyio.Event | None = None, client: str = "10.0.0.1") -> guard._Request:
        """Of pieces of 100 kB, the last of which waits for a gate."""
        left = [n_pieces]

        async def receive():
            left[0] -= 1
            if gate and not left[0]:
                await gate.wait()
            return {"type": "http.request", "body": bytes(100_000), "more_body": left[0] > 0}

        return guard._Request(kept, guard._Incoming(receive, limits), client)

    async def run():
        gates.extend(anyio.Event() for _ in range(9))
        slow = [request(2, gate, f"10.0.0.{number // 4}") for number, gate in enumerate(gates)]
        statuses = []
        async with anyio.create_task_group() as tasks:
            for one in slow[:4]:
                tasks.start_soon(coming(one))
            await anyio.sleep(0.01)
            with pytest.raises(HTTPException, match="503"):  # half of the room is that of one client
                await coming(request(2, client="10.0.0.0"))()
            for one in slow[4:8]:
                tasks.start_soon(coming(one))
            await anyio.sleep(0.01)
            assert (kept.waiting, kept.coming.total()) == (0, 8 * 100_000)  # four of the largest
            assert kept._refusal({"type": "http"}, Headers()) is None
            gates[8].set()
            with pytest.raises(HTTPException) as too_much:
                await coming(slow[8])()
            statuses.append((too_much.value.status_code, too_much.value.detail))
            quick = request(1)
            await quick()
            assert kept.waiting == 1 and kept._refusal({"type": "http"}, Headers())[0] == 503
            with pytest.raises(HTTPException) as full:
                await request(1)()
            statuses.append((full.value.status_code, full.value.detail))
            quick.leave()
            gates[0].set()
            await anyio.sleep(0.01)
            assert (kept.waiting, kept.coming.total()) == (1, 7 * 100_000)
            tasks.cancel_scope.cancel()
        for one in slow:
            one.leave()
        assert kept.waiting == 0 and not kept.coming
        return statuses

    assert anyio.run(run) == [
        (503, "too much is being sent at once; send it again"),
        (503, "1 requests are waiting already; send it again, or raise --queue"),
    ]


def test_a_body_that_trickles_is_refused_and_nobody_waits_for_it(service, monkeypatch):
    monkeypatch.setattr(guard, "SLOW_S", 0.8)
    app = app_of(service, Limits(max_mb=1, queue=1, per_minute=1000), ["localhost"], "en")

    def trickle(address: tuple[str, int]) -> bytes:
        """Status of the answer to a request of which a byte comes now and then."""
        with socket.create_connection(address) as client:
            client.sendall(post(900_000) + benchmark.form(b"x" * 50_000)[:50_000])
            client.settimeout(0.02)
            for _ in range(200):
                client.sendall(b"x")
                with suppress(TimeoutError):
                    return client.recv(12)[9:]
        return b"none"

    with listening(app) as address, ThreadPoolExecutor(3) as clients:
        slow = [clients.submit(trickle, address) for _ in range(3)]
        time.sleep(0.1)
        assert benchmark.ask(f"http://localhost:{address[1]}/", 1)[1] == 200
        assert not any(one.done() for one in slow)
        assert [one.result() for one in slow] == 3 * [b"408"]


@pytest.mark.parametrize(("name", "value"), [("PATIENCE_S", 0.05), ("SLOW_S", 0.05)])
def test_the_guard_waits_for_no_slow_body(monkeypatch, name, value):
    monkeypatch.setattr(guard, name, value)

    async def receive():
        await anyio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def run():
        incoming = guard._Incoming(receive, LIMITS)
        with anyio.fail_after(5):
            while True:
                await incoming()

    with pytest.raises(HTTPException) as refused:
        anyio.run(run)
    assert refused.value.status_code == 408


@contextmanager
def listening(app) -> Iterator[tuple[str, int]]:
    """The address of an application behind our connections, in a thread of this process."""
    config = uvicorn.Config(app, http=guard.Connection, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield bound.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)


def test_connections_that_neither_ask_nor_take_the_answer_are_broken(monkeypatch):
    """But one whose answer takes longer than that is not."""
    monkeypatch.setattr(guard, "IDLE_S", 0.3)

    async def app(scope, receive, send):
        await anyio.sleep(0.9 if scope["path"] == "/slow" else 0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    def trickle(address, head: bytes) -> float:
        """Seconds until the other side hangs up."""
        start = time.monotonic()
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(head)
            with suppress(OSError):
                while time.monotonic() < start + 5:
                    client.sendall(b"x")
                    time.sleep(0.05)
        return time.monotonic() - start

    get = b"GET %s HTTP/1.1\r\nhost: x\r\n"
    heads = [b"", get % b"/", (get % b"/") + b"content-length: 1000\r\n\r\n"]
    with listening(app) as address, ThreadPoolExecutor(4) as clients:
        slow = clients.submit(trickle, address, (get % b"/slow") + b"content-length: 1000\r\n\r\n")
        assert max(clients.map(partial(trickle, address), heads)) < 2
        assert 0.9 < slow.result() < 3


def test_saliency_is_the_slope_of_the_log_odds(service):
    trained, fit = service.trained, service.trained.fitting["fit"]
    waveform = cry(3)[:RATE].astype(np.float32)
    gradient = saliency(trained, waveform, [(0.0, 1.0), (5.0, 6.0)], 1)
    window = round(trained.fitting["clip_s"] * RATE)
    step = 1e-4 * np.random.default_rng(0).standard_normal(waveform.size)

    def odds(sound: np.ndarray) -> float:
        pieces = [fit_to_length(sound[first : first + 3200], window, fit) for first in (0, 3200)]  # of 0.4 s
        with torch.inference_mode():
            logits = trained.stage(trained.front_end(np.stack(pieces).astype(np.float32)))
        return float((logits[:, 1] - logits[:, 0]).sum())

    assert gradient.shape == waveform.shape and np.abs(gradient).max() > 0
    assert (odds(waveform + step) - odds(waveform - step)) / 2 == pytest.approx(float(gradient @ step), rel=0.05)


def test_saliency_is_where_a_short_cry_was_judged_and_not_of_cries_behind_the_picture(service, monkeypatch):
    waveform, window = cry(3)[:RATE].astype(np.float32), round(service.trained.cutting["window_s"] * RATE)
    cries = [(0.5, 0.55), (1.02, 1.07), (5.0, 5.05)]
    reached = {}
    for of_windows in (False, True):
        monkeypatch.setattr(service.trained, "of_windows", of_windows)
        places = np.flatnonzero(saliency(service.trained, waveform, cries, 1))
        reached[of_windows] = places[0] / RATE, places[-1] / RATE
    half = window / RATE / 2
    assert reached[False][0] >= 0.5 and reached[False][1] <= 0.55
    assert 0.525 - half <= reached[True][0] < 0.5 and 0.55 < reached[True][1] <= 0.525 + half


def test_pictures_fit_their_page():
    sound = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    depends = np.zeros_like(sound)
    depends[RATE:] = sound[RATE:]
    level, shares = maps(sound, depends, RATE, 400)
    assert level.shape == shares.shape == (64, 400)
    band = np.unravel_index(level.argmax(), level.shape)[0]
    assert shares[:, :190].max() < 0.1 < shares[band, 250:].min()
    drawn = picture(sound, RATE, None, [(0.5, 1.5), (1.9, 9.0), (70.0, 71.0)], 5000)
    assert drawn.width == 1200 and drawn.saliency == "" and len(drawn.units) == 2
    assert all(drawn.left <= x and x + wide <= drawn.left + drawn.inner + 0.2 for _, x, wide in drawn.units)
    assert [text for _, text in drawn.frequencies] == ["0.25", "0.5", "1", "2"]
    picture(np.zeros(3, np.float32), RATE, None, [], 100)


def test_mistakes_on_the_command_line(tested, monkeypatch):
    serve = partial(command, "serve")
    for args, told in [
        (["--host=0.0.0.0"], "--host 0.0.0.0: name this machine as others call it, too, by --allow-host NAME"),
        (["--host=0.0.0.0", "--allow-host=*"], r"--allow-host \*: give an IP address or a name, without port"),
        (["--host=[::1]"], r"--host or --allow-host \[::1\]: give an IP address or a name"),
        (["--host=::"], "--host ::: name this machine as others call it, too, by --allow-host NAME"),
        (["--max-mb=0"], "--max-mb 0: must be above 0"),
        (["--queue=0"], "1 or more requests are needed"),
        (["--port=99999"], "--port 99999: .*name another address or port"),
        (["--language=fr"], "--language: invalid choice: 'fr'"),
        (["--detector", str(tested)], "a Classifier finds no events"),
    ]:
        with pytest.raises(UserError, match=told):
            serve(["--ckpt", str(tested), *args])
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"fastapi, .* not installed; pip install 'cry-lightning\[serve\]'"):
        serve(["--ckpt", str(tested)])
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and not is_loopback("0.0.0.0")
    assert SHOWN_S == 60


@pytest.fixture(scope="module")
def running(tested, tmp_path_factory):
    """The address of a server in a process of its own, that process, and the folder for its files."""
    folder = tmp_path_factory.mktemp("tmp")
    with benchmark.serving(tested, folder, "--max-mb=5", "--queue=8", "--per-minute=100000") as (address, process):
        yield address, process, folder


def connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def post(length: int | None) -> bytes:
    """The head of a POST."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    kind = f"content-type: multipart/form-data; boundary={benchmark.BOUNDARY}"
    return f"POST /api/predict HTTP/1.1\r\nhost: localhost\r\n{kind}\r\n{size}\r\n\r\n".encode()


@pytest.mark.slow
def test_fifty_at_once_are_all_answered(running):
    address, _, folder = running
    with ThreadPoolExecutor(50) as clients:
        statuses = Counter(status for _, status, _ in clients.map(partial(benchmark.ask, address), range(1, 51)))
    assert set(statuses) <= {200, 422, 503} and statuses[200] + statuses[422] >= 8, statuses
    assert not files(folder)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("length", [10**9, None], ids=["declared", "chunked"])
def test_a_gigabyte_is_refused_and_never_held(running, length):
    """Who goes on sending gets the answer all the same: what comes is thrown away."""
    address, process, folder = running
    head = benchmark.form(b"").partition(b"\r\n--")[0]
    piece = bytes(10**6) if length else b"f4240\r\n" + bytes(10**6) + b"\r\n"
    memory = [benchmark.memory_mb(process)]
    with connected(address) as client:
        client.sendall(post(length) + (head if length else b"%x\r\n%s\r\n" % (len(head), head)))
        for number in range(1000):
            client.sendall(piece)
            if number % 50 == 0:
                memory.append(benchmark.memory_mb(process))
                assert not files(folder)
        answer = client.recv(2000)
    assert b" 413 " in answer and b"more than 5 MB" in answer
    assert max(memory) < memory[0] + 30, memory
    assert benchmark.ask(address, 1)[1] == 200 and not files(folder)


@pytest.mark.slow
def test_broken_connections_leave_nothing(running):
    address, _, folder = running
    body = benchmark.form(benchmark.sound(1))
    for sent_bytes in (0, 100, len(body) - 10, len(body)) * 5:  # the last go away while it is computed
        with connected(address) as client:
            client.sendall(post(len(body)) + body[:sent_bytes])
    assert benchmark.ask(address, 1)[1] == 200  # not one of them takes a place
    until = time.monotonic() + 20
    while files(folder) and time.monotonic() < until:  # those that came to be computed are, one by one
        time.sleep(0.05)
    assert not files(folder)


@pytest.mark.slow
def test_loopback_by_ipv6(tested, tmp_path):
    with benchmark.serving(tested, tmp_path, "--host=::1") as (address, _):
        assert re.fullmatch(r"http://\[::1\]:\d+/", address)
        assert benchmark.ask(address, 1)[1] == 200


@pytest.mark.slow
def test_sigterm_leaves_nothing(tested, tmp_path):
    with benchmark.serving(tested, tmp_path) as (address, process):
        benchmark.ask(address, 1)
        assert len(list(tmp_path.glob("cry-lightning-*"))) == 1
        os.kill(process, signal.SIGTERM)
        for _ in range(100):
            if not list(tmp_path.glob("cry-lightning-*")):
                break
            time.sleep(0.1)
    assert not files(tmp_path) and not list(tmp_path.glob("cry-lightning-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"simclr-res8", "statistics-vggish-z"}))
def test_saliency_goes_through_every_front_end_that_has_a_gradient(name, tmp_path):
    encoder, feature, others = NETWORKS[name]
    ckpt = write_checkpoint(tmp_path / "best.ckpt", encoder, feature, **others)
    with TemporaryDirectory() as folder:
        service = Service(ckpt, "cpu", (), None, 20.0, Path(folder))
        answer = service.answer(io.BytesIO(_wav(cry(1))), "a.wav", False, picture=True)
    if name == "resnet50-picture":  # colours are looked up in a table
        assert answer.depends is None
    else:
        assert answer.depends is not None and np.isfinite(answer.depends).all() and answer.depends.any()

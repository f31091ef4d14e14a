"""Many requests to `serve`, one in ten malformed: what became of each, how long it took, and what the server kept.

    python benchmarks/serve.py RUN/best.ckpt [--requests 2000] [--clients 4]

The server is a process of its own, on this machine. Sounds are noise with a pitch, of 1 to 5 s at 8 kHz in WAV or FLAC.
Memory is the resident one of the server, after the first tenth of the requests and after the last.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

RATE = 8000
MALFORMED = 10  # one in so many
BOUNDARY = "a-boundary-of-parts"
TIMEOUT_S = 120


def sound(seed: int) -> bytes:
    """A sound file."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(rng.uniform(1, 5) * RATE)) / RATE
    waveform = 0.1 * np.sin(2 * np.pi * rng.uniform(250, 600) * time_s) + 0.01 * rng.standard_normal(len(time_s))
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format=("WAV", "FLAC")[seed % 2])
    return file.getvalue()


def form(content: bytes, field: str = "file", name: str = "cry.wav") -> bytes:
    """The body of a form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def malformed(seed: int) -> bytes:
    """A body that nothing can be predicted of."""
    whole = sound(seed)
    bodies = [
        form(whole[: len(whole) // 2]),
        form(b""),
        form(b"no sound " * 1000, name="../../etc/passwd"),
        form(whole, field="sound"),
        b"no form",
        form(np.random.default_rng(seed).bytes(20_000)),
    ]
    return bodies[seed // MALFORMED % len(bodies)]


def ask(address: str, number: int) -> tuple[bool, int, float]:
    """Whether a request was malformed, the status of the answer (0: none came), and its seconds."""
    is_malformed = number % MALFORMED == 0
    body = malformed(number) if is_malformed else form(sound(number))
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    start = time.perf_counter()
    try:
        request = urllib.request.Request(f"{address}api/predict", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read()
            status = answer.status
    except urllib.error.HTTPError as error:
        error.read()
        status = error.code
    except OSError:
        status = 0
    return is_malformed, status, time.perf_counter() - start


@contextmanager
def serving(ckpt: Path, folder: Path, *args: str) -> Iterator[tuple[str, int]]:
    """The address of a server, and its process."""
    command = [sys.executable, "-m", "cry_lightning", "serve", "--ckpt", str(ckpt), "--port=0", *args]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+/", process.stdout.readline())
            if found is None:
                raise SystemExit("the server did not start")
            while not _is_there(found[0]):
                time.sleep(0.1)
            yield found[0], process.pid
        finally:
            process.terminate()


def _is_there(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}api/health", timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def memory_mb(process: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1000 if found else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("--requests", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=4, help="at once; default: %(default)s")
    options = parser.parse_args()
    first = range(options.requests // 10)
    with (
        TemporaryDirectory() as folder,
        serving(options.ckpt, Path(folder), f"--per-minute={10 * options.requests}") as (address, process),
        ThreadPoolExecutor(options.clients) as clients,
    ):
        answers = list(clients.map(lambda number: ask(address, number), first))
        before = memory_mb(process)
        start = time.perf_counter()
        answers += clients.map(lambda number: ask(address, number), range(len(first), options.requests))
        passed = time.perf_counter() - start
        after = memory_mb(process)
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
    for kind, name in ((False, "sounds"), (True, "malformed")):
        statuses = Counter(status for is_malformed, status, _ in answers if is_malformed is kind)
        print(f"{name}: " + ", ".join(f"{n} x {status}" for status, n in sorted(statuses.items())))
    took = np.sort([seconds for _, _, seconds in answers])
    print(f"lost: {sum(status == 0 for _, status, _ in answers)} of {len(answers)}; files left: {len(left)}")
    print(f"memory: {before:,.0f} MB after {len(first)} requests, {after:,.0f} MB after {len(answers)}")
    rate = (options.requests - len(first)) / passed
    print(f"{rate:.1f} requests a second; p50 {np.quantile(took, 0.5):.2f} s, p95 {np.quantile(took, 0.95):.2f} s")


if __name__ == "__main__":
    main()

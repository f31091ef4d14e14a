"""`python -m cry_lightning serve`: starts the server, and leaves nothing behind."""

import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from cry_lightning.console import UserError, stopped_by
from cry_lightning.serving.app import Language, app_of
from cry_lightning.serving.guard import Connection, Limits
from cry_lightning.serving.service import Service

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_CONNECTIONS = 1000
GRACE_S = 5  # for requests that are under way when the server is stopped


def run(
    ckpt: Path,
    host: str,
    port: int,
    trust: Sequence[str],
    device: str,
    detector: Path | None,
    max_seconds: float,
    limits: Limits,
    language: Language,
    hosts: Sequence[str],
) -> None:
    """Serve a checkpoint until it is stopped."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form is answered
    stopped = stopped_by([signal.SIGTERM], lambda _: KeyboardInterrupt())  # as by Ctrl+C, with the folder removed
    with stopped, TemporaryDirectory(prefix="cry-lightning-") as folder, _bound(host, port) as listening:
        service = Service(ckpt, device, trust, detector, max_seconds, Path(folder))
        named = [*LOOPBACK, *([host] if is_loopback(host) else []), *hosts]
        app = app_of(service, limits, named, language)
        config = uvicorn.Config(
            app,
            http=Connection,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            proxy_headers=False,  # a client could write who it is
            timeout_graceful_shutdown=GRACE_S,
        )
        name = host if is_loopback(host) else hosts[0]
        address = f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"
        print(f"{ckpt}: {address} for people, {address}openapi.json for programs; Ctrl+C stops it", flush=True)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address, before the model is loaded for it."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: {reason}; name another address or port, or port 0 for any"
        ) from error
    with listening:
        yield listening

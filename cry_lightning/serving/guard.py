"""What the server lets in: whose requests, how large, how many a minute, and how many at once."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READING = ("GET", "HEAD", "OPTIONS")
PATIENCE_S = 120.0  # for a request to come in whole
AROUND = 100_000  # bytes of a request beside its file
HEADERS = {
    # All that the page needs comes from here; nobody may put it into a page of their own.
    "content-security-policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """How much a server takes.

    Args:
        max_mb: of one request, megabytes.
        queue: requests at once, of which one is computed.
        per_minute: requests of one client.
    """

    max_mb: float
    queue: int
    per_minute: int

    @property
    def max_bytes(self) -> int:
        """Of one request."""
        return round(self.max_mb * 1e6) + AROUND


class Guard:
    """Passes requests on to an application, or refuses them in one line before they are read.

    Args:
        app: the application.
        limits: of requests that send something.
        hosts: names by which the server may be called; under any other, a page elsewhere could reach it.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Sequence[str]) -> None:
        self.app = app
        self.limits = limits
        self.hosts = {_host_of(f"//[{host}]" if ":" in host else f"//{host}") for host in hosts}
        self.waiting = 0
        self._minute, self._seen = 0, Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send_safely)
            return
        host = Headers(scope=scope).get("host", "")
        if _host_of(f"//{host}") not in self.hosts:
            reason = f"this server is not called {host[:100]!r}; start it with --allow-host, if it is"
            await JSONResponse({"detail": reason}, 400)(scope, receive, send_safely)
            return
        if scope["method"] in READING:
            await self.app(scope, receive, send_safely)
            return
        headers, incoming = Headers(scope=scope), _Incoming(receive, self.limits)
        if refusal := self._refusal(scope, headers):
            status, reason, wait = refusal
            if status != 413:  # who still sends would find the connection broken in place of the answer
                await incoming.drain()
            response = JSONResponse({"detail": reason}, status, headers=wait)
            await response(scope, incoming, send_safely)
            return
        self.waiting += 1
        try:
            await self.app(scope, incoming, send_safely)
        finally:
            self.waiting -= 1

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and further headers; None: it may come in."""
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return 403, f"a page of {origin[:100]} may not use this server", {}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limits.max_bytes:
            return 413, too_large(self.limits), {}
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._seen = minute, Counter()
        client = (scope.get("client") or ("",))[0]
        self._seen[client] += 1
        if self._seen[client] > self.limits.per_minute:
            wait_s = 60 - int(time.monotonic() % 60)
            reason = f"more than {self.limits.per_minute} requests a minute; wait {wait_s} s, or raise --per-minute"
            return 429, reason, {"retry-after": str(wait_s)}
        if self.waiting >= self.limits.queue:
            reason = f"{self.waiting} requests are waiting already; send it again, or raise --queue"
            return 503, reason, {"retry-after": "1"}
        return None


def _host_of(address: str) -> str | None:
    """The name of a host in an address, in one spelling and without its port; None where it is none."""
    with suppress(ValueError):
        name = urlsplit(address).hostname
        return str(ip_address(name)) if name and ":" in name else name
    return None


def too_large(limits: Limits) -> str:
    """Said of a file."""
    return f"more than {limits.max_mb:g} MB; cut it, or raise --max-mb"


class _Incoming:
    """What comes in of one request, up to a size and a time."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self.receive = receive
        self.limits = limits
        self.n_bytes = 0
        self.until = anyio.current_time() + PATIENCE_S
        self.whole = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            HTTPException: more came than may, or nothing for too long.
        """
        if self.whole:  # what is left to come is that the client goes away
            return await self.receive()
        try:
            with anyio.fail_after(max(0.0, self.until - anyio.current_time())):
                message = await self.receive()
        except TimeoutError as error:
            raise HTTPException(408, f"did not come in whole within {PATIENCE_S:g} s") from error
        self.n_bytes += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.n_bytes > self.limits.max_bytes:
            raise HTTPException(413, too_large(self.limits))
        return message

    async def drain(self) -> None:
        """Take and forget what comes."""
        try:
            while not self.whole:
                await self()
        except HTTPException:
            self.whole = True

"""What the server lets in: whose requests, how large, how many a minute and at once, and for how long they may wait."""

import asyncio
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
from uvicorn.protocols.http.h11_impl import H11Protocol

READING = ("GET", "HEAD", "OPTIONS")
PATIENCE_S = 120.0  # for a request to come in whole
IDLE_S = 20.0  # for the head of a request, and for any part of an answer to be taken
SLOW_S, LEAST = 10.0, 100_000  # how long is waited for so many further bytes of it
COMING, OF_ONE = 4, 2  # of the largest requests: as much as may have come of all that are not whole; of one client's
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
        queue: requests at once that have come in whole, of which one is computed.
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
        self.waiting = 0  # requests that are whole
        self.coming = Counter[str]()  # bytes of those that are not, by client
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
        request = _Request(self, incoming, client_of(scope))
        try:
            await self.app(scope, request, send_safely)
        finally:
            request.leave()

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
        client = client_of(scope)
        self._seen[client] += 1
        if self._seen[client] > self.limits.per_minute:
            wait_s = 60 - int(time.monotonic() % 60)
            reason = f"more than {self.limits.per_minute} requests a minute; wait {wait_s} s, or raise --per-minute"
            return 429, reason, {"retry-after": str(wait_s)}
        if self.waiting >= self.limits.queue:
            return self.busy()
        return None

    def busy(self) -> tuple[int, str, dict[str, str]]:
        """Said where there is no place: status, reason and further headers."""
        reason = f"{self.waiting} requests are waiting already; send it again, or raise --queue"
        if self.waiting < self.limits.queue:
            reason = "too much is being sent at once; send it again"
        return 503, reason, {"retry-after": "1"}


def client_of(scope: Scope) -> str:
    """The address that a request is from."""
    return str((scope.get("client") or ("",))[0])


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
        self.waited_s, self.came = 0.0, 0  # since LEAST bytes had come
        self.until = anyio.current_time() + PATIENCE_S
        self.whole = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            HTTPException: more came than may, or nothing for too long.
        """
        if self.whole:  # what is left to come is that the client goes away
            return await self.receive()
        start = anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, min(self.until - start, SLOW_S - self.waited_s))):
                message = await self.receive()
        except TimeoutError as error:
            slow = f"did not come in whole within {PATIENCE_S:g} s, or at less than {LEAST / 1e3:g} kB in {SLOW_S:g} s"
            raise HTTPException(408, slow) from error
        self.n_bytes += len(message.get("body", b""))
        self.came += len(message.get("body", b""))
        self.waited_s += anyio.current_time() - start  # for the client, and not for a server that is busy
        if self.came >= LEAST:
            self.waited_s, self.came = 0.0, 0
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


class _Request:
    """A request that may come in: it takes a place when it is whole, so that nobody waits for a slow one."""

    def __init__(self, guard: Guard, incoming: _Incoming, client: str) -> None:
        self.guard = guard
        self.incoming = incoming
        self.client = client
        self.n_bytes = 0  # that count as coming
        self.has_place = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            HTTPException: see `_Incoming`; or there is no place for it.
        """
        if self.incoming.whole:
            return await self.incoming()
        message, guard = await self.incoming(), self.guard
        n_bytes = len(message.get("body", b""))
        if self.incoming.whole:
            has_room = guard.waiting < guard.limits.queue
        else:
            rooms = {OF_ONE: guard.coming[self.client], COMING: guard.coming.total()}
            has_room = all(taken + n_bytes <= room * guard.limits.max_bytes for room, taken in rooms.items())
        if not has_room:
            self._count(0)  # or what is refused would keep others out while it comes
            await self.incoming.drain()
            status, reason, wait = guard.busy()
            raise HTTPException(status, reason, wait)
        self.has_place = self.incoming.whole
        guard.waiting += self.has_place
        self._count(0 if self.has_place else self.n_bytes + n_bytes)
        return message

    def _count(self, n_bytes: int) -> None:
        self.guard.coming[self.client] += n_bytes - self.n_bytes
        self.guard.coming = +self.guard.coming  # without clients of whom nothing comes
        self.n_bytes = n_bytes

    def leave(self) -> None:
        """Give back what it has taken."""
        self._count(0)
        self.guard.waiting -= self.has_place


class Connection(H11Protocol):
    """uvicorn's, which waits for the head of a request for ever; here for `IDLE_S`, or up to twice that.

    The body of a request is limited by the `Guard`, and the time between two requests by uvicorn.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._look(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self, before: object) -> None:
        """Break the connection where all is as before: nothing is computed, or no byte of an answer was taken."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        untaken = self.transport.get_write_buffer_size()
        now = None if under_way and not untaken else (self.cycle, untaken)
        if now is not None and now == before:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(IDLE_S, self._look, now)

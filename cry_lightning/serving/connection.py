"""A connection of the server's, which nobody holds open who neither asks nor takes the answer."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 20.0  # for the head of a request, and for any part of an answer to be taken


class Connection(H11Protocol):
    """uvicorn's, which waits for the head of a request for ever; here for `PATIENCE_S`, or up to twice that.

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
            self._timer = self.loop.call_later(PATIENCE_S, self._look, now)

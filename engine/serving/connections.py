"""Connections that can't be held open for nothing: uvicorn's own, with a time for a request's head.

Uvicorn closes a connection that is idle, but not one that sends a head byte by byte, or a body that nobody
reads any more. And its own refusals get the headers that every answer has.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.serving.bounds import Bounds
from engine.serving.guard import HEADERS


class BoundedConnection(H11Protocol):
    """One connection; `bounds` is set by `with_bounds`."""

    bounds = Bounds()
    _until_head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._refuse(503, "the server is busy; try again in a moment", [(b"retry-after", b"1")])
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._stop_watching()

    def handle_events(self) -> None:
        """Take what has come in."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP."""
        self._refuse(400, "this is no HTTP request", [])

    def _refuse(self, status: int, line: str, more: list[tuple[bytes, bytes]]) -> None:
        body = json.dumps({"error": line}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
            *more,
        ]
        try:
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer is on its way already
        self.transport.close()

    def _watch(self) -> None:
        """Have the time run while no request is being answered, and only then."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._until_head is None and not self.transport.is_closing():
            self._until_head = self.loop.call_later(self.bounds.head_s, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._until_head is not None:
            self._until_head.cancel()
            self._until_head = None


def with_bounds(bounds: Bounds) -> type[BoundedConnection]:
    """Return the connections of a server of these bounds."""
    return type("Connection", (BoundedConnection,), {"bounds": bounds})

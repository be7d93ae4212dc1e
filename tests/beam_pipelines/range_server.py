"""A real HTTP server on this machine that knows ranges and ETags, and can be told to fail in many ways."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file and how it is served; a test may change it between requests.

    Attributes:
        cuts: of each coming answer, the bytes of the body after which the connection ends (None: all).
        stall_after: bytes of the body after which nothing more is sent.
        status: answered instead of 200, with the data as the body, as often as `times` says (-1: always).
        content_range: sent instead of the right one.
        declared_bytes: sent as Content-Length of a whole file instead of the right one.
        location: redirected to.
        gate: where each request waits for others before it is answered.
    """

    data: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    kind: str = "application/gzip"
    ranges: bool = True
    if_range: bool = True
    cuts: list[int | None] = field(default_factory=list)
    stall_after: int | None = None
    status: int | None = None
    times: int = -1
    content_range: str | None = None
    declared_bytes: int | None = None
    location: str | None = None
    gate: threading.Barrier | None = None


@dataclass
class Site:
    """The files of a server, and the path, Range and If-Range of each request that it had."""

    address: str = ""
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def ranges(self, path: str) -> list[str | None]:
        """Return the Range of each request for a path."""
        return [asked for where, asked, _ in self.asked if where == path]


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    """Run a server while the block runs."""
    site = Site()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: that is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer as the file's settings say."""
        self.site.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        served = self.site.files[self.path]
        if served.gate:
            served.gate.wait(30)
        if served.location:
            self.send_response(302)
            self.send_header("Location", served.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, start = self._status(served)
        body = b"" if status == 416 else served.data[start:]
        self.send_response(status)
        for name, value in self._headers(served, status, start, len(body)).items():
            self.send_header(name, value)
        self.end_headers()
        self._send(served, body)

    def _status(self, served: Served) -> tuple[int, int]:
        if served.status and served.times:
            served.times -= 1
            return served.status, 0
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        known = {served.etag, served.last_modified}
        if not asked or not served.ranges or (served.if_range and condition and condition not in known):
            return 200, 0
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(found[1]) if found else 0
        return (206, start) if start < len(served.data) else (416, start)

    def _headers(self, served: Served, status: int, start: int, length: int) -> dict[str, str]:
        whole = len(served.data)
        headers = {"Content-Type": served.kind, "Content-Length": str(length)}
        if status == 200 and served.declared_bytes is not None:
            headers["Content-Length"] = str(served.declared_bytes)
        if status == 206:
            headers["Content-Range"] = served.content_range or f"bytes {start}-{whole - 1}/{whole}"
        if served.etag:
            headers["ETag"] = served.etag
        if served.last_modified:
            headers["Last-Modified"] = served.last_modified
        return headers

    def _send(self, served: Served, body: bytes) -> None:
        cut = served.cuts.pop(0) if served.cuts else None
        end = served.stall_after if served.stall_after is not None else cut
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:end])
            self.wfile.flush()
            if served.stall_after is not None:
                self.site.released.wait(30)
        if end is not None or served.declared_bytes is not None:
            self.close_connection = True

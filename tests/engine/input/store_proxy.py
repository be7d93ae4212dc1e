"""A loopback server that passes requests on to an S3 server, and counts, delays, spoils or withholds them."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Of the connection and not of the message.
_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive"}


class StoreProxy(ThreadingHTTPServer):
    """Serve what `upstream` serves.

    Attributes:
        gets: (path, range) of each GET, in the order of their arrival.
        most_at_once: GETs that were under way at the same time.
        gate: GETs wait while it is clear; those of paths for which `passes` is true don't.
        break_after_bytes: bodies of GETs break off there, while it is set, as many times as `breaks`.
        refusal: status and body that GETs are answered with, while it is set, as many times as `refusals`.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.gets: list[tuple[str, str]] = []
        self.under_way = self.most_at_once = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.passes: Callable[[str], bool] = lambda path: ".tfrecord" not in path
        self.delay = threading.Event()
        self.delay_s = 0.0
        self.break_after_bytes = 0
        self.breaks = 0
        self.refusal: tuple[int, bytes] | None = None
        self.refusals = 0
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def shard_gets(self) -> Counter[str]:
        """How often each shard was asked for, by file name."""
        return Counter(path.rpartition("/")[2] for path, _ in self.gets if path.endswith(".tfrecord"))

    def close(self) -> None:
        self.gate.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that break off are what tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StoreProxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        proxy = self.server
        with proxy.lock:
            proxy.gets.append((urllib.parse.urlsplit(self.path).path, self.headers.get("Range", "")))
            proxy.under_way += 1
            proxy.most_at_once = max(proxy.most_at_once, proxy.under_way)
        try:
            self._get(proxy)
        finally:
            with proxy.lock:
                proxy.under_way -= 1

    def _get(self, proxy: StoreProxy) -> None:
        if not proxy.passes(self.path):
            proxy.gate.wait()
        if proxy.delay_s:
            proxy.delay.wait(proxy.delay_s)
        with proxy.lock:
            refused, broken = proxy.refusals > 0, proxy.breaks > 0
            proxy.refusals -= refused
            proxy.breaks -= broken and not refused
        if refused and proxy.refusal:
            status, body = proxy.refusal
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self._pass_on(proxy.break_after_bytes if broken else None)

    def _pass_on(self, break_after_bytes: int | None = None) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_HEADERS}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in (*_HOP_HEADERS, "date", "server", "content-length"):
                self.send_header(key, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if break_after_bytes is not None:
            self.wfile.write(data[:break_after_bytes])
            self.close_connection = True
            return
        self.wfile.write(data)

    def do_PUT(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_DELETE(self) -> None:
        self._pass_on()

"""Fetches one file over HTTP into a partial file, and goes on by range where an earlier attempt stopped.

Responsible for requests, ranges, retries and for never mixing the bytes of two files: a range is asked for
with `If-Range`, so that a file that changed at the server is sent from its beginning. What the bytes must be
(checksum), their final name and locks are left to the caller.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError

from records import json_text, storage
from records.errors import StorageError

# Read at once; what has arrived of it is lost when a connection stalls.
CHUNK_BYTES = 64 << 10
CONNECT_TIMEOUT_S = 20.0
# Between attempts: doubled after each that brought nothing.
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
MAX_REDIRECTS = 10
GZIP_MAGIC = b"\x1f\x8b"
# Answers that may be others in a moment; 202 is "not ready yet".
_TRANSIENT = {202, 408, 425, 429, *range(500, 600)}


class Cancelled(Exception):  # noqa: N818 - nothing is wrong
    """The caller has set `stop`."""


class _AttemptFailed(Exception):  # noqa: N818
    """An attempt ended early; the next may go on where it stopped."""


@dataclass(frozen=True)
class Note:
    """What a partial file is the beginning of.

    Attributes:
        url_sha256: of the address asked for, before any redirect, which may hold a password.
        validator: the server's strong ETag, or its Last-Modified; None where it sends neither.
        size_bytes: of the whole file, None where the server doesn't say.
    """

    url_sha256: str
    validator: str | None
    size_bytes: int | None


class Partial:
    """The bytes fetched so far, in a file, with a note beside it; both survive the process."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.note_path = path.with_name(f"{path.name}.json")
        with _writing(path):
            # Unbuffered: what has arrived survives a kill. Appending: no seek can go wrong.
            self._file = path.open("ab", buffering=0)
        self.note = self._read_note(url)

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            if not self.path.stat().st_size:
                self.remove()

    @property
    def size_bytes(self) -> int:
        """Bytes that can be gone on from: none without a note."""
        return self._file.seek(0, 2) if self.note else 0

    def begin(self, note: Note) -> None:
        """Drop all bytes; those to come are the beginning of another file."""
        with _writing(self.path):
            # In this order: bytes never stand under a note that isn't theirs.
            self._file.truncate(0)
        storage.write_bytes(str(self.note_path), json.dumps(asdict(note)).encode())
        self.note = note

    def append(self, data: bytes) -> None:
        """Put bytes behind those that are there."""
        rest = memoryview(data)
        with _writing(self.path):
            while rest:
                rest = rest[self._file.write(rest) or 0 :]

    def publish(self, path: Path) -> None:
        """Give the bytes their name, once they are on the disk; the note goes."""
        with _writing(path):
            os.fsync(self._file.fileno())
            self.path.replace(path)
        self.note_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove bytes and note."""
        self.note_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _read_note(self, url: str) -> Note | None:
        try:
            note = Note(**json_text.parse(self.note_path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        sound = isinstance(note.validator, str | None) and isinstance(note.size_bytes, int | None)
        return note if sound and note.url_sha256 == _sha256(url) else None


class Client:
    """Connections to servers, shared by threads; by way of the proxy that the environment names, if any."""

    def __init__(self, *, threads: int, timeout_s: float) -> None:
        self._options = {
            "maxsize": threads,
            "timeout": urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
            # Redirects alone: attempts are counted by the bytes they bring, which urllib3 can't know.
            "retries": urllib3.Retry(
                total=None, connect=0, read=0, other=0, status=0, redirect=MAX_REDIRECTS
            ),
        }
        self._direct = urllib3.PoolManager(**self._options)  # type: ignore[arg-type]
        self._proxies: dict[str, urllib3.ProxyManager] = {}

    def get(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Send one request, follow redirects, and return the answer with its body unread."""
        # Always from the first address: those that it redirects to may be signed for minutes only. A stored
        # archive must arrive as it is stored.
        headers = {"Accept-Encoding": "identity", "User-Agent": "cxr-engine", **headers}
        return self._manager(url).request(
            "GET", url, headers=headers, preload_content=False, decode_content=False
        )

    def _manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if not proxy or urllib.request.proxy_bypass(parts.netloc):
            return self._direct
        if proxy not in self._proxies:
            self._proxies[proxy] = urllib3.ProxyManager(proxy, **self._options)  # type: ignore[arg-type]
        return self._proxies[proxy]


@dataclass(frozen=True)
class Fetch:
    """One file to be fetched.

    Attributes:
        url: where from.
        size_bytes: of the whole file, None where it isn't known beforehand.
        checksum_known: the caller will hold the whole against a checksum. Then a server that sends neither
            ETag nor Last-Modified is also asked for ranges, since a mixture couldn't pass.
        partial: where to.
        client: sends the requests.
        attempts: in a row that bring no byte, before it gives up.
        stop: when set, `run` raises Cancelled soon.
        report: is told the bytes here and the bytes in all (None: not known).
        say: is told of each failed attempt in a line.
    """

    url: str
    size_bytes: int | None
    checksum_known: bool
    partial: Partial
    client: Client
    attempts: int
    stop: threading.Event
    report: Callable[[int, int | None], None]
    say: Callable[[str], None]

    def run(self) -> None:
        """Fetch what is missing of the file.

        Raises:
            StorageError: the server refuses, sends something else, or nothing comes any more.
            Cancelled: `stop` was set.
        """
        failures, most = 0, self.partial.size_bytes
        while True:
            try:
                return self._attempt()
            except _AttemptFailed as fault:
                here = self.partial.size_bytes
                failures, most = (1, here) if here > most else (failures + 1, most)
                if failures >= self.attempts:
                    raise StorageError(
                        f"{self.url}: {fault}; gave up after {failures} attempts without a new byte, with "
                        f"{here:,} bytes here; run the same command again to go on"
                    ) from fault
                wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1))
                self.say(f"{fault}; going on from byte {here:,} in {wait_s:g} s")
                if self.stop.wait(wait_s):
                    raise Cancelled from None

    def _attempt(self) -> None:
        here, note = self.partial.size_bytes, self.partial.note
        total = (note.size_bytes if note else None) or self.size_bytes
        if here and here == total:
            return
        headers = self._range_headers(here, note) if note and here and here < (total or here + 1) else {}
        try:
            with self._answer(headers) as answer:
                if headers and answer.status == 206:
                    total = self._check_range(answer, here)
                    first = b""
                elif answer.status == 200:
                    total, first = self._begin(answer)
                else:
                    self._refuse(answer)
                self._copy(answer, first, total)
        except HTTPError as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def _answer(self, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        answer = self.client.get(self.url, headers)
        try:
            yield answer
        finally:
            answer.close()  # what is left of a body isn't worth a connection

    def _range_headers(self, here: int, note: Note) -> dict[str, str]:
        """Ask for the rest, provided it is of the same file; for nothing where that can't be said."""
        if note.validator:
            return {"Range": f"bytes={here}-", "If-Range": note.validator}
        return {"Range": f"bytes={here}-"} if self.checksum_known and note.size_bytes else {}

    def _check_range(self, answer: urllib3.BaseHTTPResponse, here: int) -> int | None:
        """Hold a part against what was asked for; return the size of the whole."""
        text = answer.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text.strip())
        if not found or int(found[1]) != here:
            self._fail(f"answered a request for the bytes from {here} with Content-Range `{text}`")
        noted = self.partial.note
        total = int(found[3]) if found[3] != "*" else None
        etag = answer.headers.get("ETag")
        # A server that doesn't know If-Range.
        other_file = noted and (
            (noted.validator or "").startswith('"') and etag is not None and etag != noted.validator
        )
        if other_file or (noted and total and noted.size_bytes and total != noted.size_bytes):
            self._forget()
            raise _AttemptFailed("the file at the server has changed")
        return total or (noted.size_bytes if noted else None)

    def _begin(self, answer: urllib3.BaseHTTPResponse) -> tuple[int | None, bytes]:
        """Take a whole file; what was here goes, but only once the answer looks like an archive."""
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        first = answer.read(CHUNK_BYTES)
        if not first.startswith(GZIP_MAGIC):
            kind = answer.headers.get("Content-Type", "no Content-Type")
            self._fail(f"answered with {kind} that begins with {first[:40]!r}, not with a gzip archive")
        if total and self.size_bytes and total != self.size_bytes:
            self._fail(f"the server's file has {total:,} bytes; the list says {self.size_bytes:,}")
        self.partial.begin(Note(_sha256(self.url), _validator(answer), total))
        return total, first

    def _copy(self, answer: urllib3.BaseHTTPResponse, first: bytes, total: int | None) -> None:
        data = first or answer.read(CHUNK_BYTES)
        while data:
            self.partial.append(data)
            self.report(self.partial.size_bytes, total)
            if self.stop.is_set():
                raise Cancelled
            data = answer.read(CHUNK_BYTES)
        here, whole = self.partial.size_bytes, total or self.size_bytes
        if whole and here < whole:
            raise _AttemptFailed(f"the connection ended at byte {here:,} of {whole:,}")

    def _refuse(self, answer: urllib3.BaseHTTPResponse) -> NoReturn:
        if answer.status == 416:
            self._forget()
            raise _AttemptFailed("the server has no such range of the file; it is fetched anew")
        text = f"answered {answer.status} {answer.reason or ''}".rstrip()
        if answer.status in _TRANSIENT:
            raise _AttemptFailed(text)
        self._fail(text)

    def _forget(self) -> None:
        self.partial.begin(Note(_sha256(self.url), None, None))

    def _failed(self, error: HTTPError) -> Exception:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        text = str(reason.args[0] if reason.args and isinstance(reason.args[0], str) else reason)
        if isinstance(reason, ResponseError) or "CERTIFICATE_VERIFY_FAILED" in text:
            return StorageError(f"{self.url}: {text}")
        return _AttemptFailed(text)

    def _fail(self, text: str) -> NoReturn:
        raise StorageError(f"{self.url}: {text}; open the address in a browser, or give another by --urls")


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _validator(answer: urllib3.BaseHTTPResponse) -> str | None:
    etag = answer.headers.get("ETag", "")
    # A weak ETag says "as good as", which is not enough to join bytes.
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: can't be written: {(error.strerror or str(error)).lower()}") from error

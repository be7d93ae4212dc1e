"""A request's body -> the bytes of the one file in it, in memory and never more of them than allowed.

Nothing of a part but its content is kept: its file's name is not even looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from engine.serving.faults import RequestError

FIELD = "file"
# Of the boundary lines and a part's own headers, above its content.
FRAME_BYTES = 16 << 10
# How much of a body that is too large is still read, so that the client gets to read why it was refused.
_DRAINED = 4
# Of a length that is meant: Python refuses to read numbers of thousands.
_LENGTH_DIGITS = 20
_EXPECTED = f"expected multipart/form-data with one file in a part named `{FIELD}`"


def declared_bytes(headers: Mapping[str, str], most: int) -> int:
    """Return how much memory a body may take, before any of it is read.

    Args:
        headers: of the request.
        most: bytes that are allowed; what a body of unknown length counts as.

    Raises:
        RequestError: 400, its length is no number.
    """
    told = headers.get("content-length")
    if told is None:
        return most
    if not told.isascii() or not told.isdigit() or len(told) > _LENGTH_DIGITS:
        raise RequestError(400, "Content-Length is no number")
    return min(int(told), most)


async def read_file(headers: Mapping[str, str], stream: AsyncIterator[bytes], most: int) -> bytes:
    """Read the file that a form holds.

    Args:
        headers: of the request.
        stream: its body.
        most: bytes of the file, above which the rest is thrown away.

    Raises:
        RequestError: 413, it is larger; 400, the body is no form, or not one of one file.
    """
    form = _Form(headers.get("content-type", ""), most)
    told = headers.get("content-length", "0")
    if int(told) > most + FRAME_BYTES:
        if "expect" not in headers:  # whoever does expect an answer before it sends gets it before
            await _drain(stream, _DRAINED * most)
        raise _too_large(most)
    read = 0
    async for chunk in stream:
        read += len(chunk)
        if read > most + FRAME_BYTES or form.is_too_large:
            await _drain(stream, _DRAINED * most)
            raise _too_large(most)
        form.feed(chunk)
    return form.content()


async def _drain(stream: AsyncIterator[bytes], most: int) -> None:
    read = 0
    async for chunk in stream:
        read += len(chunk)
        if read > most:
            return


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"the file is too large; expected at most {most >> 20:,} MiB")


class _Form:
    """Takes a form apart as it comes in; of its parts there may be one."""

    def __init__(self, content_type: str, most: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise RequestError(400, f"the body is no form; {_EXPECTED}")
        self._most = most
        self._data = bytearray()
        self._parts = 0
        self._header, self._value = b"", b""
        self._name: bytes | None = None
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._part_data,
                "on_end": self._end,
            },
        )

    @property
    def is_too_large(self) -> bool:
        return len(self._data) > self._most

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RequestError(400, f"the form is damaged; {_EXPECTED}") from error

    def content(self) -> bytes:
        if self.is_too_large:
            raise _too_large(self._most)
        if not self._is_whole or self._parts != 1 or self._name != FIELD.encode():
            raise RequestError(400, f"the form is cut off or of other parts; {_EXPECTED}")
        return bytes(self._data)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise RequestError(400, f"the form has several parts; {_EXPECTED}")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name")
        self._header, self._value = b"", b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def _end(self) -> None:
        self._is_whole = True

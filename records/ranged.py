"""A stored object as a seekable stream: each read is a request for a range of its bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class RangedReader(io.RawIOBase):
    """Reads an object by ranges; `io.BufferedReader` around it decides how large they are."""

    def __init__(self, read_range: Callable[[int, int], bytes], size_bytes: int) -> None:
        """Read from the start.

        Args:
            read_range: returns the bytes from an offset on, so many as are asked for.
            size_bytes: of the object.
        """
        super().__init__()
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that any place can be read."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; nothing is asked of the store until the next read."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"offset {offset} lies before the start")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with one request; return how many bytes there were, 0 at the end."""
        count = min(len(buffer), self._size_bytes - self._position)
        if count <= 0:
            return 0
        buffer[:count] = self._read_range(self._position, count)
        self._position += count
        return count

"""Which store a location lies in: local paths and `s3://` are `records.storage`'s, `gs://` is Beam's."""

from __future__ import annotations

from typing import IO, Protocol, cast

from beam_pipelines import gcs
from records import storage


class Store(Protocol):
    """What reads locations; the modules `records.storage` and `gcs` both do."""

    def exists(self, location: str) -> bool: ...

    def list_files(self, prefix: str) -> list[storage.Stored]: ...

    def open_binary(self, location: str, buffer_bytes: int) -> IO[bytes]: ...

    def read_bytes(self, location: str) -> bytes: ...

    def read_range(self, location: str, offset: int, size_bytes: int) -> bytes: ...

    def version(self, location: str) -> str: ...


def of(location: str) -> Store:
    """Return the store that a location lies in."""
    return cast(Store, gcs if gcs.is_gs(location) else storage)

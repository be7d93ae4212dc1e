"""Which store a location lies in: local paths and `s3://` are `records.storage`'s, `gs://` is Beam's."""

from __future__ import annotations

from types import ModuleType

from beam_pipelines import gcs
from records import storage


def of(location: str) -> ModuleType:
    """Return the module that reads a location.

    Either one has `exists`, `list_files`, `open_binary`, `read_bytes`, `read_range` and `version`, with the
    same arguments, results and errors.
    """
    return gcs if gcs.is_gs(location) else storage

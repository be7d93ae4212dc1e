"""A small data set that a test may spoil."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_data_set import write_data_set

from records import manifest


@pytest.fixture
def data_set(tmp_path: Path) -> manifest.Manifest:
    """A data set in a folder."""
    return write_data_set(str(tmp_path / "data_set"))

from __future__ import annotations

from pathlib import Path

import pytest
from judged_runs import make_run

from engine.training.run_directory import RunDirectory
from records.manifest import Manifest


@pytest.fixture
def finished(tmp_path: Path, data_set: Manifest) -> RunDirectory:
    """A run that has ended, with a model that is linear in the pixels."""
    return make_run(tmp_path / "run", data_set)

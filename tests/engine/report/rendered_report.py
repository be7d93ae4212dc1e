"""A report as tests read it, and what they change about a run before they write one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Report(NamedTuple):
    """A run directory and the three files of its report."""

    run_dir: Path
    html: Path
    markdown: Path
    json: Path


def move_data_set(run_dir: Path, location: str) -> None:
    """Let a run say that its data set lies elsewhere."""
    run = json.loads((run_dir / "run.json").read_text())
    run["manifest"]["location"] = location
    (run_dir / "run.json").write_text(json.dumps(run))

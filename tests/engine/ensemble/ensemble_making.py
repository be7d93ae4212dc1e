"""Makes an ensemble by its command and reads its note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.ensemble import ensemble
from records.errors import CxrError

DRAWS = 100


def make_ensemble(run_dirs: list[str], output: Path, **settings: object) -> dict:
    assert ensemble.run(run_dirs, str(output), draws=DRAWS, **settings) == 0
    return json.loads((output / "ensemble.json").read_bytes())


def refused(run_dirs: list[str], output: Path, **settings: object) -> str:
    with pytest.raises(CxrError) as caught:
        ensemble.run(run_dirs, str(output), **settings)
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"

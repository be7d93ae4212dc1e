"""What tests of conversions ask of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipelines import convert


def error_of(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Run a conversion that must fail with `code` and one line; return the line."""
    assert convert.main(arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("converting:")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def tree_of(folder: Path) -> dict[str, bytes]:
    """Return all bytes of a data set but the file that says where and how fast it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != convert.CONVERSION_NAME
    }

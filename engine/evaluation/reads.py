"""`test_reads.json`: each reading of the test split by a model of this run directory.

A test split that chooses between models is no test split any more, so another model is refused unless it is
asked for, and the record keeps both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.training import run_directory
from records import json_text, storage
from records.errors import RunError

FILE_NAME = "test_reads.json"
_KEYS = {"at", "model_sha256", "manifest_sha256", "frozen_sha256", "command"}


def read(path: str | Path) -> list[dict[str, Any]]:
    """Return the record, the oldest reading first; empty: the test split was never read.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return []
    try:
        entries = json_text.parse(path.read_bytes())
        if any(_KEYS - entry.keys() for entry in entries):
            raise ValueError("an entry without its keys")
        if not all(isinstance(entry[key], str) for entry in entries for key in ("at", "model_sha256")):
            raise ValueError("an entry that names no model or time")
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path}: damaged ({error}); it says which models have read the test split: put it back from a "
            "copy, or train into a new folder"
        ) from error
    return entries


def check(path: Path, model_sha256: str, *, reread_test: bool) -> None:
    """Refuse the test split to a model that hasn't read it, where another one has.

    Raises:
        RunError: another model has, and `reread_test` is off.
    """
    entries = read(path)
    own = [entry for entry in entries if entry["model_sha256"] == model_sha256]
    others = [entry for entry in entries if entry["model_sha256"] != model_sha256]
    if others and not own and not reread_test:
        raise RunError(
            f"{path.parent.parent}: another model of this run has read the test split at {others[-1]['at']} "
            f"({others[-1]['model_sha256'][:12]}, now {model_sha256[:12]}); choosing between models on test "
            "spoils it: use --split validation, or --reread-test to read it again and have that recorded"
        )


def holds(path: Path, entry: Mapping[str, str | None]) -> bool:
    """Tell whether a reading by the same model, with the same choices, is on record."""
    return any(entry.items() <= known.items() for known in read(path))


def append(path: Path, entry: Mapping[str, str | None]) -> None:
    """Record a reading, before it begins.

    Before, since a process that is killed afterwards may have shown numbers already: a reading too many in
    the record is honest, one too few isn't.

    Args:
        path: of the record.
        entry: `model_sha256`, `manifest_sha256` and `frozen_sha256`, None where nothing was chosen.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entries = [*read(path), {"at": now, **entry, "command": run_directory.command()}]
    storage.write_bytes(str(path), (json.dumps(entries, indent=1) + "\n").encode())

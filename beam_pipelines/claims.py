"""Who is writing a data set: the request it is to answer and the run that answers it, `.work/request.json`.

In a folder the kernel's lock keeps a second conversion out. An object store has no lock, so every run that
begins takes the claim over, and a run that finds another's name in it stops before it publishes anything.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from typing import Any

from beam_pipelines.plan import Request
from records import json_text, storage
from records.errors import ManifestError

WORK_FOLDER = ".work"
FILE_NAME = f"{WORK_FOLDER}/request.json"


def make(output: str, request: Request) -> str:
    """Claim an output for a request; return the name of this run, by which its workers know each other."""
    owner = uuid.uuid4().hex
    record = {"sha256": request.sha256, "owner": owner, "request": asdict(request)}
    storage.write_bytes(storage.join(output, FILE_NAME), json.dumps(record).encode())
    return owner


def check(output: str, owner: str) -> None:
    """Check that an output is still this run's.

    Raises:
        ManifestError: another conversion has begun to write here since, or has ended.
    """
    found = read(output)
    if found is None or found.get("owner") != owner:
        raise ManifestError(f"{output}: another conversion is writing here; choose another --output")


def read(output: str) -> dict[str, Any] | None:
    """Return an output's claim: None where there is none, nothing in it where it can't be read."""
    return read_json(storage.join(output, FILE_NAME))


def read_json(location: str) -> dict[str, Any] | None:
    """Return a JSON object of ours: None where there is no file, an empty one where it can't be read."""
    if not storage.exists(location):
        return None
    try:
        found = json_text.parse(storage.read_bytes(location))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

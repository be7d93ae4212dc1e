"""A copy of a run in a bucket, renewed with each checkpoint, from which another machine goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.training import checkpoints
from engine.training.run_directory import (
    CHECKPOINT_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    FINDINGS_NAME,
    HISTORY_NAME,
    RUN_NAME,
    STEPS_NAME,
)
from records import storage
from records.errors import RunError

# The model before the checkpoint that knows of it: a newer model than it says is trained again and the same.
_FILES = (CONFIG_NAME, HISTORY_NAME, FINDINGS_NAME, STEPS_NAME, CHECKPOINT_NAME)


class Mirror:
    """Sends the files of a run to a location; each object appears whole or not at all.

    Args:
        folder: of the run.
        location: `s3://bucket/prefix`.
        keep_last: checkpoints there.
    """

    def __init__(self, folder: Path, location: str, keep_last: int) -> None:
        self._folder, self._location, self._keep_last = folder, location, keep_last
        self._sent: dict[str, tuple[int, int]] = {}

    def send(self, checkpoint: Path | None = None) -> None:
        """Send what has changed, a new checkpoint if there is one, and `run.json` last.

        Raises:
            StorageError: the bucket can't be written.
        """
        for name in _FILES:
            self._send(name)
        if checkpoint:
            self._send(f"{CHECKPOINTS_NAME}/{checkpoint.name}")
            self._clean(checkpoint.name)
        self._send(RUN_NAME)

    def _clean(self, newest: str) -> None:
        """Remove old checkpoints, and newer ones, which are damaged or another run's."""
        found = _stored(self._location)
        until = [location for location in found if storage.name(location) <= newest]
        for location in set(found) - set(until[-self._keep_last :]):
            storage.delete(location)

    def _send(self, name: str) -> None:
        path = self._folder / name
        if not path.is_file():
            return
        status = path.stat()
        version = status.st_mtime_ns, status.st_size
        if self._sent.get(name) != version:
            storage.upload(path, storage.join(self._location, name))
            self._sent[name] = version


def check_free(location: str) -> None:
    """Refuse a location that a run to be begun would overwrite; an empty text is none.

    Raises:
        RunError: a run is there.
    """
    if location and storage.exists(storage.join(location, RUN_NAME)):
        raise RunError(
            f"{location}: a run is there; go on with it by --resume auto, choose another "
            "checkpoint.location, or replace it with --overwrite"
        )


def fetch_newer(location: str, folder: Path) -> bool:
    """Bring a run into a folder that holds none, or an older state of it; tell whether that was done.

    Raises:
        StorageError: as `fetch`.
    """
    # What a killed process had begun to fetch is no run until its note stands.
    if (folder / RUN_NAME).exists():
        there = [storage.name(stored) for stored in _stored(location)]
        here = [path.name for path in checkpoints.stored(folder / CHECKPOINTS_NAME)]
        if not there or (here and here[0] >= there[-1]):
            return False
    return fetch(location, folder)


def fetch(location: str, folder: Path) -> bool:
    """Bring a run from its location into an empty folder, if one is there; tell whether it was.

    Of the checkpoints the newest whole one comes, and those behind it that aren't.

    Raises:
        StorageError: the bucket can't be read, or the folder not be written.
    """
    note = storage.join(location, RUN_NAME)
    if not storage.exists(note):
        return False
    print(f"{location}: a run is there; it is brought to {folder}", file=sys.stderr)
    for name in _FILES:
        if storage.exists(storage.join(location, name)):
            storage.fetch(storage.join(location, name), folder / name)
    (folder / CHECKPOINTS_NAME).mkdir(parents=True, exist_ok=True)
    for stored in reversed(_stored(location)):
        path = folder / CHECKPOINTS_NAME / storage.name(stored)
        storage.fetch(stored, path)
        try:
            checkpoints.read(path)
            break
        except RunError:
            continue
    storage.fetch(note, folder / RUN_NAME)  # last: a folder without it holds no run yet
    return True


def _stored(location: str) -> list[str]:
    """The checkpoints at a location, the oldest first."""
    folder = storage.join(location, CHECKPOINTS_NAME)
    return sorted(found.location for found in storage.list_files(folder + "/"))

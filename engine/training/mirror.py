"""A copy of a run in a bucket, renewed with each checkpoint, from which another machine goes on.

Further copies of best models and TensorBoard's events go there, too, and stay there: a run that goes on
elsewhere needs neither.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from engine.training import checkpoints
from engine.training.run_directory import (
    CHECKPOINT_NAME,
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    EVENTS_NAME,
    FINDINGS_NAME,
    HISTORY_NAME,
    RUN_NAME,
    STEPS_NAME,
    RunDirectory,
)
from records import json_text, storage
from records.errors import RunError, StorageError

# The model before the checkpoint that knows of it: a newer model than it says is trained again and the same.
_FILES = (CONFIG_NAME, HISTORY_NAME, FINDINGS_NAME, STEPS_NAME, CHECKPOINT_NAME)
_PROBE_NAME = ".writable"
# A store that can't be reached is asked for minutes, in which no other checkpoint is begun; so it is left
# alone for so many times as long as a try took.
_REST = 10.0


class Mirror:
    """Sends the files of a run to a location; each object appears whole or not at all.

    Args:
        directory: of the run.
        location: `s3://bucket/prefix`.
        keep_last: checkpoints there.
    """

    def __init__(self, directory: RunDirectory, location: str, keep_last: int) -> None:
        self._directory, self._location, self._keep_last = directory, location, keep_last
        self._folder = directory.path
        self._sent: dict[str, tuple[int, int]] = {}
        self._earlier = set(self._copies())
        self._told = False
        self._next_try_s = 0.0

    def keep_up(self, checkpoint: Path) -> None:
        """Send as `send` does; where that fails, say so once, note it in `run.json` and try again later."""
        if time.monotonic() < self._next_try_s:
            return
        begin_s = time.monotonic()
        try:
            self.send(checkpoint)
        except StorageError as error:
            since = self._note(error)
            if not self._told:
                _say(
                    f"note: {error}; the run goes on and is whole in {self._folder}, but isn't copied since "
                    f"{since}; that is tried again with later checkpoints"
                )
            self._told = True
            end_s = time.monotonic()
            self._next_try_s = end_s + _REST * (end_s - begin_s)

    def finish(self) -> None:
        """Send all that isn't there yet, when the run ends.

        Raises:
            RunError: the bucket can't be written.
        """
        try:
            self.send(next(iter(checkpoints.stored(self._folder / CHECKPOINTS_NAME)), None))
        except StorageError as error:
            since = self._note(error)
            raise RunError(
                f"{error}; the run is whole in {self._folder}, but isn't copied since {since}: mend that, "
                "and the same command with --resume auto copies it"
            ) from error

    def send(self, checkpoint: Path | None = None) -> None:
        """Send what has changed, a new checkpoint if there is one, and `run.json` last.

        Raises:
            StorageError: the bucket can't be written.
        """
        for name in _FILES:
            self._send(name)
        self._send_copies()
        if checkpoint:
            self._send(f"{CHECKPOINTS_NAME}/{checkpoint.name}")
            self._clean(checkpoint.name)
        fault = self._directory.read().get("copy_fault")
        if fault:
            self._directory.update(copy_fault=None)
        self._send(RUN_NAME)
        if fault:
            _say(f"{self._location}: the run is copied there again; it wasn't since {fault['since']}")
        self._told = False

    def _note(self, error: StorageError) -> str:
        """Write down that there is no copy of the newest state; return since when."""
        known = self._directory.read().get("copy_fault") or {}
        since = known.get("since", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        self._directory.update(copy_fault={"since": since, "reason": str(error)})
        return since

    def _clean(self, newest: str) -> None:
        """Remove old checkpoints, and newer ones, which are damaged or another run's."""
        found = _stored(self._location)
        until = [location for location in found if storage.name(location) <= newest]
        for location in set(found) - set(until[-self._keep_last :]):
            storage.delete(location)

    def _copies(self) -> list[str]:
        """Further copies of best models."""
        found = (path.relative_to(self._folder) for path in self._folder.rglob("*.keras"))
        visible = (path for path in found if not any(part.startswith(".") for part in path.parts))
        return sorted(path.as_posix() for path in visible if path.name != CHECKPOINT_NAME)

    def _send_copies(self) -> None:
        """Send what only grows: models that were the best, and events."""
        if self._earlier:
            # What another process sent is known by its size.
            there = storage.list_files(self._location + "/")
            sizes = {
                stored.location.removeprefix(f"{self._location}/"): stored.size_bytes for stored in there
            }
            for name in self._earlier & sizes.keys():
                version = self._version(name)
                if version and version[1] == sizes[name]:
                    self._sent[name] = version
            self._earlier.clear()
        events = (f"{EVENTS_NAME}/{path.name}" for path in (self._folder / EVENTS_NAME).glob("*"))
        for name in [*self._copies(), *sorted(events)]:
            self._send(name)

    def _version(self, name: str) -> tuple[int, int] | None:
        """What changes when a file does; None: there is none."""
        path = self._folder / name
        if not path.is_file():
            return None
        status = path.stat()
        return status.st_mtime_ns, status.st_size

    def _send(self, name: str) -> None:
        version = self._version(name)
        if version and self._sent.get(name) != version:
            storage.upload(self._folder / name, storage.join(self._location, name))
            self._sent[name] = version


def check_place(location: str, directory: RunDirectory, *, overwrite: bool) -> None:
    """Check that a run may be copied to a location: it can be written, and no other run would be lost.

    Args:
        location: an empty text is none.
        directory: of the run, which may not have begun.
        overwrite: whether another run there may be replaced.

    Raises:
        RunError: another run is there.
        StorageError: it can't be written.
    """
    if not location:
        return
    if not overwrite and (there := _note_at(location)):
        begun = directory.read().get("started") if (directory.path / RUN_NAME).exists() else None
        if begun is None or there.get("started") != begun:
            raise RunError(
                f"{location}: {'another' if begun else 'a'} run is there; go on with it by --resume auto, "
                "choose another checkpoint.location, or replace it with --overwrite"
            )
    probe = storage.join(location, _PROBE_NAME)
    storage.write_bytes(probe, b"")
    storage.delete(probe)


def is_copied(location: str, directory: RunDirectory) -> bool:
    """Tell whether a location holds a run as it stands in a folder, by its note, which is sent last.

    Raises:
        StorageError: the bucket can't be read.
    """
    return _note_at(location) == directory.read()


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


def _say(line: str) -> None:
    # Whoever read our lines may have gone; the run goes on.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _stored(location: str) -> list[str]:
    """The checkpoints at a location, the oldest first."""
    folder = storage.join(location, CHECKPOINTS_NAME)
    return sorted(found.location for found in storage.list_files(folder + "/"))


def _note_at(location: str) -> dict[str, Any] | None:
    note = storage.join(location, RUN_NAME)
    if not storage.exists(note):
        return None
    try:
        return dict(json_text.parse(storage.read_bytes(note)))
    except (ValueError, TypeError) as error:
        raise RunError(f"{note}: not the note of a run; choose another checkpoint.location") from error

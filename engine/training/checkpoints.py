"""Checkpoints on the disk: written whole by a thread of its own, the last few kept, damaged ones passed over.

A checkpoint is one file of arrays with the run's other state as JSON among them, each part under a CRC-32
that is checked when it is read. What the arrays are is `snapshot`'s business, copies in a bucket `mirror`'s.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from records import json_text
from records.errors import CxrError, RunError

Arrays = dict[str, np.ndarray]

_PREFIX, _SUFFIX = "step-", ".npz"
_STATE = "state.json"


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        path: of the file.
        arrays: by name.
        state: whatever JSON holds.
    """

    path: Path
    arrays: Arrays
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for the last one to be written.

    Args:
        folder: of the files; made when it is needed.
        keep_last: the newest so many are kept.
        after: called in the writing thread with each new file, such as to copy it elsewhere.
    """

    def __init__(self, folder: Path, keep_last: int, after: Callable[[Path], None] | None = None) -> None:
        self._folder, self._keep_last, self._after = folder, keep_last, after
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        try:
            self.wait()
        except CxrError as error:
            # Who leaves a run counts on its checkpoint.
            if kind is None or issubclass(kind, KeyboardInterrupt):
                raise
            # The run ends for another reason, and goes on from an older checkpoint.
            print(f"note: {error}", file=sys.stderr)

    def save(self, step: int, arrays: Arrays, state: dict[str, Any]) -> None:
        """Begin to write a checkpoint, when the one before stands.

        Args:
            step: through all epochs, in the file's name.
            arrays: must not change any more.
            state: whatever JSON holds.

        Raises:
            RunError: the one before couldn't be written.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, step, arrays, state)

    def wait(self) -> None:
        """Return when all that was saved stands.

        Raises:
            RunError: it couldn't be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, step: int, arrays: Arrays, state: dict[str, Any]) -> None:
        path = self._folder / f"{_PREFIX}{step:09d}{_SUFFIX}"
        scratch = path.with_name(f".{path.name}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                told = np.frombuffer(json.dumps(state).encode(), np.uint8)
                np.savez(file, allow_pickle=False, **{_STATE: told, **arrays})
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
            _fsync(self._folder)  # before older ones go
            self._clean(path)
        except OSError as error:
            raise RunError(
                f"{path}: the checkpoint can't be written: {(error.strerror or str(error)).lower()}; make "
                "room or mend the folder, and go on with --resume auto"
            ) from error
        finally:
            scratch.unlink(missing_ok=True)
        if self._after:
            self._after(path)

    def _clean(self, path: Path) -> None:
        """Remove old checkpoints, and what a killed writer left.

        Newer ones go too: the run went on from behind them, for they are damaged or another run's.
        """
        files = stored(self._folder)
        kept = files[files.index(path) :][: self._keep_last]
        for file in [*(set(files) - set(kept)), *self._folder.glob(f".{_PREFIX}*.partial")]:
            file.unlink()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True)


def newest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; say which ones aren't. None: there are none.

    Raises:
        RunError: there are some, but none is whole.
    """
    found = stored(folder)
    for path in found:
        try:
            return read(path)
        except RunError as error:
            print(f"note: {error}", file=sys.stderr)
    if found:
        raise RunError(
            f"{folder}: none of the {len(found)} checkpoints is whole; begin anew with --overwrite"
        )
    return None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunError: it can't be read, or is damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = json_text.parse(arrays.pop(_STATE).tobytes())
    # RuntimeError: damage that looks like encryption, or like a way of packing that zipfile doesn't know.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: not a whole checkpoint ({' '.join(str(error).split())})") from error
    return Checkpoint(path, arrays, state)

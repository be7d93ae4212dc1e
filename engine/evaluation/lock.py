"""One process at a time judges a run, or replaces it; the kernel frees the lock however that process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from records.errors import RunError, StorageError

FILE_NAME = ".lock"
# Where nothing can be written, nothing needs a lock; what stands there can be shown.
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep the evaluation of a run to this process while the block runs.

    Args:
        run_dir: of the run, which is there.

    Raises:
        RunError: another process is at it, or has replaced the run meanwhile.
        StorageError: the lock can't be made, such as on a full disk.
    """
    path = run_dir / "evaluation" / FILE_NAME
    try:
        file = _opened(path)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise StorageError(f"{path}: can't be written: {os.strerror(error.errno or 0)}") from error
        yield
        return
    with file:
        _take(file, path, run_dir)
        yield


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(exist_ok=True)
    return path.open("ab")


def _take(file: IO[bytes], path: Path, run_dir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{run_dir}: another process is evaluating or replacing it; call again when that has ended"
        ) from None
    # Who waited for nothing may still hold the lock of a folder that was put aside since.
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        raise RunError(f"{run_dir}: another process has replaced it just now; call again")

"""A folder of bounded size for local copies of files, shared by all processes of the machine.

Room is taken before a copy is made, under the folder's lock, for all that lies in the folder. Who reads a
copy holds a shared `flock` on it, who makes one an exclusive one: the kernel frees both when a process ends,
so nothing is removed while it is in use, and what a killed process left half made is known by its free lock.
The least recently used copies go first, by their access times, which opening one sets.

A copy's name carries its checksum, so another version of a data set never meets an older one's files. What is
copied, and whether it is right, is `shard_cache`'s business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from records import storage
from records.errors import StorageError
from records.manifest import StoredFile

_LOCK_NAME = ".lock"
_LOCK_WAIT_S = 60.0
_POLL_S = 0.002
_COPY = re.compile(r"[0-9a-f]{8}-.+")
_HALF_MADE = re.compile(r"\.[0-9a-f]{8}-.+\.partial")


class AlreadyThereError(Exception):
    """A copy is there by now, or another thread or process makes it."""


@dataclass(frozen=True)
class _Entry:
    path: Path
    size_bytes: int
    used_ns: int


class CacheFolder:
    """Copies of files in a folder, and the room for more; threads and processes may share one.

    Each method raises an OSError where the folder can't be read or written, and a StorageError where a lock
    that is held for milliseconds isn't given free.

    Attributes:
        path: of the folder; made when it is needed.
        limit_bytes: of all files in it.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path, self.limit_bytes = path, limit_bytes

    def copy_path(self, file: StoredFile) -> Path:
        """Return where a file's copy stands when it is there."""
        return self.path / f"{file.crc32c}-{storage.name(file.path)}"

    def partial_path(self, file: StoredFile) -> Path:
        """Return where a file's copy stands while it is made."""
        copy = self.copy_path(file)
        return copy.with_name(f".{copy.name}.partial")

    def open(self, file: StoredFile) -> int | None:
        """Return a descriptor of a copy, which is in use until it is closed; None: there is none."""
        try:
            descriptor = os.open(self.copy_path(file), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            _wait_for(descriptor, fcntl.LOCK_SH, self.copy_path(file))
            status = os.fstat(descriptor)
            # Removed, or half removed by hand, before the lock was had.
            if status.st_nlink and status.st_size == file.size_bytes:
                with contextlib.suppress(PermissionError):  # another user's copy
                    os.utime(descriptor, ns=(time.time_ns(), status.st_mtime_ns))
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def reserve(self, file: StoredFile) -> int | None:
        """Take room for a file that nobody makes a copy of, removing others if need be.

        Returns:
            A descriptor of a file of its size, to be filled, then published or discarded; None: no room.

        Raises:
            AlreadyThereError: the copy is there by now, or being made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            descriptor = self.open(file)
            if descriptor is not None:
                os.close(descriptor)
            if descriptor is not None or self.made_until_ns(file):
                raise AlreadyThereError(self.copy_path(file))
            self.copy_path(file).unlink(missing_ok=True)  # of another size than its name stands for
            if not self._make_room(file.size_bytes):
                return None
            try:
                return self._make(file)
            except FileExistsError:  # left by a killed process, and looked at by another just now
                raise AlreadyThereError(self.copy_path(file)) from None

    def publish(self, file: StoredFile, descriptor: int) -> None:
        """Give a copy that is whole its name; from then on the descriptor is that of any reader."""
        # Copies are removed under this lock alone, so that none is between the two kinds of its own lock.
        with self.locked():
            self.partial_path(file).rename(self.copy_path(file))
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def discard(self, file: StoredFile, descriptor: int) -> None:
        """Remove a damaged or half-made copy and close it; whoever has it mapped keeps it."""
        try:
            with self.locked():
                mine = os.fstat(descriptor)
                for path in (self.copy_path(file), self.partial_path(file)):
                    # Not one that another process has made since.
                    if path.exists() and os.path.samestat(path.stat(), mine):
                        path.unlink()
        except FileNotFoundError:
            pass  # the whole folder was removed
        finally:
            os.close(descriptor)

    def made_until_ns(self, file: StoredFile) -> int | None:
        """Return the time of the last byte of a copy that is being made; None: nobody makes one."""
        try:
            descriptor = os.open(self.partial_path(file), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _try(descriptor, fcntl.LOCK_SH) else os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)

    def used_bytes(self) -> int:
        """Return the size of all files in the folder."""
        return sum(entry.size_bytes for entry in self._entries())

    def _make(self, file: StoredFile) -> int:
        path = self.partial_path(file)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(descriptor, fcntl.LOCK_EX, path)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, file.size_bytes)
            else:
                os.ftruncate(descriptor, file.size_bytes)
        except BaseException:
            path.unlink()
            os.close(descriptor)
            raise
        return descriptor

    def _make_room(self, size_bytes: int) -> bool:
        """Remove what nobody uses, the least recently used first, until so many bytes fit; else nothing."""
        entries = sorted(self._entries(), key=lambda entry: entry.used_ns)
        left_over = [entry for entry in entries if _HALF_MADE.fullmatch(entry.path.name)]
        used_bytes = sum(entry.size_bytes for entry in entries)
        used_bytes -= sum(entry.size_bytes for entry in left_over if _remove_unused(entry.path))
        with contextlib.ExitStack() as held:
            victims = []
            for entry in entries:
                if used_bytes + size_bytes <= self.limit_bytes:
                    break
                if _COPY.fullmatch(entry.path.name) and held.enter_context(_unused(entry.path)):
                    victims.append(entry.path)
                    used_bytes -= entry.size_bytes
            fits = used_bytes + size_bytes <= self.limit_bytes
            for path in victims if fits else ():
                path.unlink(missing_ok=True)
        return fits

    def _entries(self) -> Iterator[_Entry]:
        with os.scandir(self.path) as found:
            for entry in found:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield _Entry(Path(entry.path), status.st_size, status.st_atime_ns)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from taking room inside the block; the folder must be there."""
        path = self.path / _LOCK_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait_for(descriptor, fcntl.LOCK_EX, path)
            yield
        finally:
            os.close(descriptor)


def _remove_unused(path: Path) -> bool:
    """Remove a file unless somebody holds a lock on it; tell whether it is gone."""
    with _unused(path) as unused:
        if unused:
            path.unlink(missing_ok=True)
        return unused


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Tell whether nobody holds a lock on a file, and keep others from one while the block runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _try(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _try(descriptor: int, lock: int) -> bool:
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(descriptor: int, lock: int, path: Path) -> None:
    """Take a lock that others hold for milliseconds."""
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    while not _try(descriptor, lock):
        if time.monotonic() > deadline_s:
            raise StorageError(
                f"{path}: another process has held its lock for {_LOCK_WAIT_S:.0f} s; end that process"
            )
        time.sleep(_POLL_S)

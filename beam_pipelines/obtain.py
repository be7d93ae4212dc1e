"""One archive from its address to its place: put together, checked, named, and sent if its place is remote.

An archive grows in a hidden partial file and gets its name by rename once its size and its MD5 agree with
the list; where the list has no MD5, the archive is unpacked once in memory and must agree with the CRC32
that gzip keeps. So whatever ends the command leaves either a partial file, which the next run goes on with,
or the whole archive. For `s3://` the same happens in a scratch folder, and the archive is sent when it is
whole and checked: a checksum over a stream can't be carried from one process to the next, and an object
that was put together from the parts of two runs would have to be read back to be checked.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from beam_pipelines.archive_list import Archive
from beam_pipelines.byte_progress import ByteProgress
from beam_pipelines.http_ranges import Cancelled, Client, Fetch, Partial
from records import storage
from records.errors import StorageError

READ_BYTES = 4 << 20


@dataclass(frozen=True)
class Job:
    """What the downloads of one command share.

    Attributes:
        folder: where archives are put together: the output, or the scratch folder of an `s3://` output.
        remote: the `s3://` output, None for a local one.
        stored: size in bytes of each object that the remote output has, by location.
    """

    folder: Path
    remote: str | None
    stored: dict[str, int]
    client: Client
    progress: ByteProgress
    stop: threading.Event
    attempts: int


def obtain(archive: Archive, job: Job) -> str:
    """Bring one archive to its place; return what was done.

    Raises:
        StorageError: it can't be had, is not what the list says, or something else stands in its place.
        Cancelled: the command is ending.
    """
    if not job.remote:
        with _alone(job.folder / archive.name):
            return _put_together(archive, job)
    location = storage.join(job.remote, archive.name)
    if location in job.stored:
        return _check_stored(archive, location, job.stored[location])
    path = job.folder / archive.name
    with _alone(path):
        done = _put_together(archive, job)
        storage.upload(path, location)
        path.unlink()
    return f"{done}; sent to {location}"


def _put_together(archive: Archive, job: Job) -> str:
    path = job.folder / archive.name
    if path.exists():
        size = path.stat().st_size
        try:
            _check_size(archive, size)
            checked = _check_content(path, archive, job.stop)
        except StorageError as error:
            raise StorageError(f"{path}: {error}; delete it, or choose another --output") from error
        for leftover in path.parent.glob(f"{_partial_path(path).name}*"):  # of a run killed at its end
            leftover.unlink()
        job.progress.report(archive.name, size, size)
        return f"already there, {size:,} bytes, {checked}"
    with Partial(_partial_path(path), archive.url) as partial:
        _fetch(archive, partial, job)
        size = partial.size_bytes
        try:
            _check_size(archive, size)
            checked = _check_content(partial.path, archive, job.stop)
        except StorageError as error:
            partial.remove()
            raise StorageError(
                f"{archive.url}: {error}; what was fetched is deleted; run the same command again, and if "
                "that brings the same, give another address by --urls"
            ) from error
        partial.publish(path)
    return f"downloaded, {size:,} bytes, {checked}"


def _fetch(archive: Archive, partial: Partial, job: Job) -> None:
    job.progress.report(archive.name, partial.size_bytes, archive.size_bytes)
    Fetch(
        url=archive.url,
        size_bytes=archive.size_bytes,
        checksum_known=archive.md5 is not None,
        partial=partial,
        client=job.client,
        attempts=job.attempts,
        stop=job.stop,
        report=lambda here, total: job.progress.report(archive.name, here, total),
        say=lambda text: job.progress.say(f"{archive.name}: {text}"),
    ).run()


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep a second download of the same archive out while the block runs; a killed one keeps nobody out."""
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StorageError(f"{path}: another download is writing it; wait for it to end") from error
            if not _is_file_at(lock, file):  # its last holder has removed it since it was opened
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_file_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _check_size(archive: Archive, size: int) -> None:
    if archive.size_bytes and size != archive.size_bytes:
        raise StorageError(f"{size:,} bytes; the list says {archive.size_bytes:,}")


def _check_content(path: Path, archive: Archive, stop: threading.Event) -> str:
    """Read a whole archive and hold it against its MD5, or gzip's own CRC32; return which it was."""
    if archive.md5:
        md5 = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            for data in _read(file, stop):
                md5.update(data)
        if md5.hexdigest() != archive.md5:
            raise StorageError(f"its MD5 is {md5.hexdigest()}; the list says {archive.md5}")
        return "MD5 checked"
    try:
        with gzip.open(path) as file:
            for _ in _read(file, stop):
                pass
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise StorageError(f"not a whole gzip archive ({error})") from error
    return "CRC32 checked (the list has no MD5)"


def _read(file: IO[bytes] | gzip.GzipFile, stop: threading.Event) -> Iterator[bytes]:
    while data := file.read(READ_BYTES):
        if stop.is_set():
            raise Cancelled
        yield data


def _check_stored(archive: Archive, location: str, size: int) -> str:
    """Hold an object against the list by its size: reading it back would take as long as a download."""
    try:
        _check_size(archive, size)
    except StorageError as error:
        raise StorageError(f"{location}: {error}; delete it, or choose another --output") from error
    checked = "size checked" if archive.size_bytes else "not checked: the list has no size"
    return f"already at {location}, {size:,} bytes, {checked}"


def bytes_here(folder: Path, name: str) -> int:
    """Return how much of an archive is in the folder where it is put together."""
    for path in (folder / name, _partial_path(folder / name)):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
    return 0

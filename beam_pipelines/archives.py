"""Images of tar archives: checked and reduced in one pass, and spooled until their shards are written.

A tar archive can't be read at random, and the set's twelve hold 45 GB. So each is one work item: a worker
reads it as a stream, and appends the reduced pictures to a file in the output's `.work/spool/`, which comes
to a quarter of the archive's size. The note beside it is written last, so its presence means that the archive
is done; a resumed conversion skips it. The names of both are made of archive, version and settings, so that a
spool is never taken for another one.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import google_crc32c
import numpy as np

from beam_pipelines import counters, plan, tars
from beam_pipelines.checked import FINGERPRINT_BYTES, CheckedImage, check
from beam_pipelines.claims import WORK_FOLDER
from beam_pipelines.image_files import Found, check_size
from beam_pipelines.notes import NOT_A_NOTE
from beam_pipelines.sources import Archive
from records import json_text, storage
from records.errors import ImageError, StorageError, TableError

SPOOL_FOLDER = f"{WORK_FOLDER}/spool"
_NOTE_SUFFIX = ".npz"
_PIXELS_SUFFIX = ".pixels"
_REFERENCE = re.compile(rf"(?P<note>.+{re.escape(_NOTE_SUFFIX)})#(?P<row>\d+)", re.DOTALL)
# Of an image that has no picture in the spool.
_NOWHERE = -1
# A worker meets all twelve archives; with images of several sources there may be more.
_NOTES_KEPT = 64


@dataclass(frozen=True)
class SpoolNote:
    """What one archive held; n images, in its order.

    Attributes:
        side_px: rows and columns of a picture.
        names: of the files.
        reasons: why an image has no picture, empty where it has one.
        oddities: what is unusual about the file, empty for most.
        sizes_bytes: (n,) int64, of the PNGs.
        offsets: (n,) int64, where the picture begins in the spool; -1 where there is none.
        crcs: (n,) uint32, CRC32C of the picture.
        fingerprints: (n, 16) uint8, of the original's pixels.
    """

    side_px: int
    names: list[str]
    reasons: list[str]
    oddities: list[str]
    sizes_bytes: np.ndarray
    offsets: np.ndarray
    crcs: np.ndarray
    fingerprints: np.ndarray

    @property
    def pixels_bytes(self) -> int:
        """Size of the spool."""
        return int((self.offsets != _NOWHERE).sum()) * self.side_px**2


def spool(archive: Archive, output: str, side_px: int, counter_folder: str = "") -> str:
    """Read one archive, unless that is done already; return where its note stands.

    Args:
        archive: as the sources list it.
        output: folder or `s3://` prefix of the data set.
        side_px: rows and columns of the pictures.
        counter_folder: where the number of images done is left.

    Raises:
        StorageError: the archive can't be read, ends early, is damaged or changes meanwhile; nothing of it
            is kept.
        TableError: it holds two images of one name.
    """
    location = note_location(archive, output, side_px)
    done = find_spool(archive, output, side_px)
    if done is not None:
        counters.report(counter_folder, storage.name(location), len(done), len(done))
        return location
    cv2.setNumThreads(1)  # the runner's processes share the cores
    spooler = _Spooler(archive.location, side_px)
    with storage.atomic_writer(_pixels_location(location)) as file:
        for count, member in enumerate(tars.read_images(archive.location), start=1):
            spooler.add(file, member)
            counters.report(counter_folder, storage.name(location), count)
        if storage.version(archive.location) != archive.version:
            raise StorageError(f"{archive.location}: changed while it was read; run the command again")
    counters.report(counter_folder, storage.name(location), len(spooler.names), len(spooler.names))
    storage.write_bytes(location, _to_bytes(spooler.note()))
    return location


def find_spool(archive: Archive, output: str, side_px: int) -> dict[str, Found] | None:
    """Return the images of an archive that has been read, by name; None where that isn't done.

    An image that failed its checks is among them: `load` tells the reason.
    """
    location = note_location(archive, output, side_px)
    try:
        if not storage.exists(location):
            return None
        note = _from_bytes(storage.read_bytes(location))
        size_bytes = storage.size(_pixels_location(location))
    except (FileNotFoundError, *NOT_A_NOTE):
        return None
    if size_bytes != note.pixels_bytes:
        return None
    entries = enumerate(zip(note.names, note.sizes_bytes.tolist(), note.crcs.tolist(), strict=True))
    return {
        name: Found(f"{location}#{row}", size_bytes, f"{crc:08x}") for row, (name, size_bytes, crc) in entries
    }


def is_reference(location: str) -> bool:
    """Tell whether a location is an image of a spool."""
    return _REFERENCE.fullmatch(location) is not None


def load(reference: str, side_px: int) -> CheckedImage:
    """Return one picture of a spool as it was when its archive was read.

    Raises:
        ImageError: it failed the checks; the message is the reason.
        StorageError: the spool can't be read, is damaged or has pictures of another side.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise StorageError(f"{reference}: no image of a spool")
    try:
        return _load(found["note"], int(found["row"]), side_px)
    except StorageError as error:
        # A vanished spool is no single image's fault, so its cause is not handed on.
        raise StorageError(str(error)) from error


def clear_spool(output: str) -> None:
    """Remove all spools of an output, and what workers that were killed left half-written."""
    _delete(output, (_NOTE_SUFFIX, _PIXELS_SUFFIX, storage.SCRATCH_SUFFIX))


def clear_partial(output: str) -> None:
    """Remove only what workers that were killed left half-written: a gigabyte each, and no worker may run."""
    _delete(output, (storage.SCRATCH_SUFFIX,))


def note_location(archive: Archive, output: str, side_px: int) -> str:
    """Return where the note of an archive stands; its name holds all that decides what is in it."""
    where = archive.location if "://" in archive.location else str(Path(archive.location).absolute())
    parts = [where, archive.size_bytes, archive.version, side_px, plan.library_versions()]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return storage.join(output, SPOOL_FOLDER, f"{storage.name(archive.location)}-{digest}{_NOTE_SUFFIX}")


class _Spooler:
    """Appends pictures to an open spool and keeps account of them."""

    def __init__(self, archive: str, side_px: int) -> None:
        self.names: dict[str, None] = {}
        self._archive = archive
        self._side_px = side_px
        self._end = 0
        self._reasons: list[str] = []
        self._oddities: list[str] = []
        self._numbers: list[tuple[int, int, int]] = []
        self._fingerprints: list[bytes] = []

    def add(self, file: IO[bytes], member: tars.Member) -> None:
        """Append one picture, or note why there is none."""
        if member.name in self.names:
            raise TableError(f"{member.name} is twice in {self._archive}; expected each image once")
        self.names[member.name] = None
        try:
            check_size(member.size_bytes)
            image = check(member.data or b"", self._side_px)
        except ImageError as error:
            self._note((member.size_bytes, _NOWHERE, 0), bytes(FINGERPRINT_BYTES), "", str(error))
            return
        data = image.grey.tobytes()
        file.write(data)
        numbers = (member.size_bytes, self._end, google_crc32c.value(data))
        self._note(numbers, image.fingerprint, image.oddity, "")
        self._end += len(data)

    def _note(self, numbers: tuple[int, int, int], fingerprint: bytes, oddity: str, reason: str) -> None:
        self._numbers.append(numbers)
        self._reasons.append(reason)
        self._oddities.append(oddity)
        self._fingerprints.append(fingerprint)

    def note(self) -> SpoolNote:
        """Return the account of the spool."""
        numbers = np.array(self._numbers, np.int64).reshape(-1, 3)
        fingerprints = np.frombuffer(b"".join(self._fingerprints), np.uint8)
        return SpoolNote(
            side_px=self._side_px,
            names=list(self.names),
            reasons=self._reasons,
            oddities=self._oddities,
            sizes_bytes=numbers[:, 0],
            offsets=numbers[:, 1],
            crcs=numbers[:, 2].astype(np.uint32),
            fingerprints=fingerprints.reshape(-1, FINGERPRINT_BYTES),
        )


def _load(location: str, row: int, side_px: int) -> CheckedImage:
    note = _read_note(location)
    if note.side_px != side_px:
        raise StorageError(f"{location}: pictures of side {note.side_px}; expected {side_px}")
    if note.reasons[row]:
        raise ImageError(note.reasons[row])
    data = storage.read_range(_pixels_location(location), int(note.offsets[row]), side_px**2)
    if google_crc32c.value(data) != note.crcs[row]:
        raise StorageError(
            f"{_pixels_location(location)}: damaged at {note.names[row]}; delete it and add --resume"
        )
    grey = np.frombuffer(data, np.uint8).reshape(side_px, side_px)
    return CheckedImage(grey, note.fingerprints[row].tobytes(), note.oddities[row])


@functools.lru_cache(_NOTES_KEPT)
def _read_note(location: str) -> SpoolNote:
    try:
        return _from_bytes(storage.read_bytes(location))
    except NOT_A_NOTE as error:
        raise StorageError(f"{location}: damaged; delete it and add --resume") from error


def _to_bytes(note: SpoolNote) -> bytes:
    text = json.dumps([note.side_px, note.names, note.reasons, note.oddities])
    arrays = {name: getattr(note, name) for name in ("sizes_bytes", "offsets", "crcs", "fingerprints")}
    buffer = io.BytesIO()
    np.savez(buffer, text=text, **arrays)
    return buffer.getvalue()


def _from_bytes(data: bytes) -> SpoolNote:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return SpoolNote(*json_text.parse(str(values.pop("text"))), **values)


def _pixels_location(note: str) -> str:
    return note.removesuffix(_NOTE_SUFFIX) + _PIXELS_SUFFIX


def _delete(output: str, suffixes: tuple[str, ...]) -> None:
    folder = storage.join(output, SPOOL_FOLDER)
    if storage.is_s3(output):
        found = [stored.location for stored in storage.list_files(folder)]
    else:
        found = [str(path) for path in Path(folder).glob("*")]  # hidden ones, too
    for location in found:
        if location.endswith(suffixes):
            storage.delete(location)
    if not storage.is_s3(output) and Path(folder).is_dir() and not any(Path(folder).iterdir()):
        Path(folder).rmdir()

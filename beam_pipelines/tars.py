"""Images in a `.tar.gz` (or `.tar`) that is read as a stream, from end to end: it can't be read at random."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, NamedTuple, cast

from beam_pipelines.image_files import MAX_FILE_BYTES, is_image
from records import storage
from records.errors import StorageError

SUFFIXES = (".tar.gz", ".tgz", ".tar")
_GZIP_MAGIC = b"\x1f\x8b"
# Of an object by one request, of a gzip by one call.
_BUFFER_BYTES = 8 << 20
_PIECE_BYTES = 64 << 10
# Of a long name, or of further fields of a header, which tarfile takes into memory whole.
_MAX_EXTENSION_BYTES = 1 << 20
_EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# What tarfile raises over a header, and over the block of zeros that ends a whole archive.
_HeaderError: type[Exception] = vars(tarfile)["HeaderError"]
_ArchiveEndError: type[Exception] = vars(tarfile)["EOFHeaderError"]


class Member(NamedTuple):
    """One image of an archive.

    Attributes:
        name: of the file, without folders.
        size_bytes: as the archive declares it.
        data: the file; None where it is too large for an image, and was not read.
    """

    name: str
    size_bytes: int
    data: bytes | None


class _DamagedError(Exception):
    """An archive that isn't whole; the message says in what."""


class _CheckedHeader(tarfile.TarInfo):
    """A header that is whole: tarfile takes a damaged one, and the end of the file, for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _CheckedHeader:
        """Parse one block, and refuse what would be read into memory without end."""
        header = cast(_CheckedHeader, super().frombuf(buf, encoding, errors))
        if header.type in _EXTENSIONS and header.size > _MAX_EXTENSION_BYTES:
            raise _DamagedError(f"a header of {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _CheckedHeader:
        """Read the next header."""
        try:
            return cast(_CheckedHeader, super().fromtarfile(tarfile))
        except _ArchiveEndError:
            raise
        except _HeaderError as error:
            raise _DamagedError(str(error)) from error


def read_images(location: str) -> Iterator[Member]:
    """Yield the PNGs of an archive in its order; whatever else it holds is passed over.

    Raises:
        StorageError: it can't be read, is no archive, ends early or is damaged. That may show only at its
            end, so nothing of it counts before the generator is exhausted.
    """
    with storage.open_binary(location, _BUFFER_BYTES) as file:
        images = 0
        try:
            with _unpacked(file) as stream:
                for member in _read_members(stream):
                    yield member
                    images += 1
        except (tarfile.TarError, _DamagedError, EOFError, zlib.error, OSError) as error:
            reason = " ".join(str(error).split())
            raise StorageError(
                f"{location}: ends early or is damaged after {images:,} images ({reason}); download it again"
            ) from error


def first_image(location: str) -> str | None:
    """Return the name of an archive's first PNG, None where it holds none.

    Raises:
        StorageError: it can't be read or is no archive.
    """
    return next((member.name for member in read_images(location)), None)


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    # By content: some browsers unpack what they download and leave its name.
    packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file


def _read_members(stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE_BYTES, tarinfo=_CheckedHeader) as archive:
        for header in archive:
            if (header.islnk() or header.issym()) and is_image(header.name):
                kind = "hard" if header.islnk() else "symbolic"
                raise StorageError(f"{header.name} is a {kind} link; unpack the archive, and name the folder")
            if header.isreg() and is_image(header.name):
                yield Member(PurePosixPath(header.name).name, header.size, _read_member(archive, header))
    while stream.read(_PIECE_BYTES):  # to the checksum behind the last byte
        pass


def _read_member(archive: tarfile.TarFile, header: tarfile.TarInfo) -> bytes | None:
    content = archive.extractfile(header) if header.size <= MAX_FILE_BYTES else None
    return content.read() if content is not None else None

"""Where the images are: lists them once and joins them to the table on `Image Index`.

Files, objects and members of zips can be reached at random, so they are listed here; what a tar archive holds
is known only when it has been read, which `archives` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines import tars, zips
from beam_pipelines.image_files import IMAGE_SUFFIX, Found, is_image
from records import storage
from records.errors import StorageError, TableError
from records.table import ImageTable

# How many names an error shows of a long list.
SHOWN = 3


class Archive(NamedTuple):
    """A tar archive, which must be read through.

    Attributes:
        location: of the `.tar.gz`, `.tgz` or `.tar`.
        size_bytes: of the archive.
        version: changes when the archive is replaced.
    """

    location: str
    size_bytes: int
    version: str


class Listing(NamedTuple):
    """What the sources hold.

    Attributes:
        images: those that can be reached at random, by file name.
        archives: those that must be read through, in the order of their numbers.
    """

    images: dict[str, Found]
    archives: tuple[Archive, ...]


def list_sources(sources: Sequence[str]) -> Listing:
    """Find every PNG and every archive below the sources, at any depth.

    Of each tar archive the first image is looked at: one that lies beside what was unpacked from it is found
    out before the archives are read.

    Args:
        sources: folders, `s3://` or `gs://` prefixes, or single `.zip`, `.tar.gz`, `.tgz` or `.tar` archives.

    Raises:
        StorageError: a source isn't there or holds no image, or an archive is damaged.
        TableError: two images have the same name, or an archive is named twice.
    """
    images: dict[str, Found] = {}
    archives: dict[str, Archive] = {}
    for source in sources:
        found, tar_archives = _list_archive(source) if _is_archive(source) else _list_folder(source)
        for image in found:
            _add(images, _file_name(image), image)
        for archive in tar_archives:
            if archive.location in archives:
                raise TableError(f"{archive.location}: named twice; name a source once")
            archives[archive.location] = archive
    ordered = sorted(archives.values(), key=lambda archive: _natural(archive.location))
    holding_images = tuple(_holding_images(ordered, images, sources))
    if not images and not holding_images:
        raise StorageError(_nothing_in(" ".join(sources)))
    return Listing(images, holding_images)


def merge(listing: Listing, spooled: Sequence[Mapping[str, Found]]) -> dict[str, Found]:
    """Put the images of archives that have been read to those that were listed.

    Raises:
        TableError: two images have the same name.
    """
    images = dict(listing.images)
    for found in spooled:
        for name, image in found.items():
            _add(images, name, image)
    return images


def check_complete(
    table: ImageTable, images: Collection[str], excluded: Collection[str], *, allow_missing: bool
) -> np.ndarray:
    """Hold the images against the table.

    Args:
        table: the label table, N rows.
        images: names of those that are there.
        excluded: names of those that nobody misses.
        allow_missing: whether others may be missing.

    Returns:
        (N,) bool, which rows of the table have an image.

    Raises:
        TableError: an image that the table doesn't have, or, unless allowed, rows without an image.
    """
    names = table.image_ids.tolist()
    unknown = sorted(set(images) - set(names))
    if unknown:
        raise TableError(
            f"{_shown(images, unknown[0])}: not in {table.name} ({len(unknown):,} such in all); "
            "expected only images of its `Image Index` column"
        )
    there, left_out = set(images), set(excluded)
    present = np.fromiter((name in there for name in names), bool, len(table))
    missing = [name for name in names if name not in there and name not in left_out]
    if missing and not allow_missing:
        raise TableError(
            f"{len(missing):,} of the {len(table):,} images of {table.name} are missing, such as "
            f"{', '.join(missing[:SHOWN])}; add --allow_missing_images to convert the {present.sum():,} "
            "that are there"
        )
    return present


def _is_archive(location: str) -> bool:
    """Tell an archive by its name; a folder may have such a name, too."""
    if not location.lower().endswith((zips.SUFFIX, *tars.SUFFIXES)):
        return False
    if "://" in location:
        return storage.exists(location)
    return not Path(location).is_dir()


def _list_archive(location: str) -> tuple[list[Found], list[Archive]]:
    if not location.lower().endswith(zips.SUFFIX):
        return [], [_archive(storage.Stored(location, _size(location)))]
    found = zips.list_images(location)
    if not found:
        raise StorageError(_nothing_in(location))
    return found, []


def _list_folder(source: str) -> tuple[list[Found], list[Archive]]:
    files = storage.list_files(source)
    images = [Found(*file) for file in files if is_image(file.location)]
    for file in files:
        if file.location.lower().endswith(zips.SUFFIX):
            images += zips.list_images(file.location)
    archives = [_archive(file) for file in files if file.location.lower().endswith(tars.SUFFIXES)]
    if not images and not archives:
        raise StorageError(
            f"{source}: no {IMAGE_SUFFIX} file below it, nor an archive; expected the NIH's images"
        )
    return images, archives


def _archive(file: storage.Stored) -> Archive:
    return Archive(file.location, file.size_bytes, storage.version(file.location))


def _size(location: str) -> int:
    with storage.open_binary(location, 1 << 10) as file:
        return file.seek(0, 2)


def _holding_images(
    archives: Sequence[Archive], images: Mapping[str, Found], sources: Sequence[str]
) -> Iterator[Archive]:
    """Yield the archives that hold images; one that was named by itself must."""
    known = dict(images)
    for archive in archives:
        name = tars.first_image(archive.location)
        if name is not None:
            _add(known, name, Found(storage.join(archive.location, name), 0))
            yield archive
        elif archive.location in sources:
            raise StorageError(_nothing_in(archive.location))


def _nothing_in(source: str) -> str:
    return f"{source}: no {IMAGE_SUFFIX} file in it; expected the NIH's images"


def _file_name(image: Found) -> str:
    return storage.name(readable(image.location))


def _add(images: dict[str, Found], name: str, image: Found) -> None:
    if name in images:
        raise TableError(
            f"{name} is there twice, as {readable(images[name].location)} and {readable(image.location)}; "
            "expected each image once: name a source once, and either an archive or what was unpacked from it"
        )
    images[name] = image


def readable(location: str) -> str:
    """Return where an image lies, without the numbers that only a worker needs."""
    return location.rpartition("#")[0] if zips.is_reference(location) else location


def _shown(images: Collection[str], name: str) -> str:
    found = images.get(name) if isinstance(images, Mapping) else None
    return readable(found.location) if isinstance(found, Found) else name


def _natural(location: str) -> list[tuple[int, str]]:
    """Return a key by which `images_2` comes before `images_10`."""
    parts = re.split("([0-9]+)", location)  # texts and numbers by turns
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]

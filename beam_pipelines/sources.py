"""Where the images are: lists them once and joins them to the table on `Image Index`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from records import storage
from records.errors import StorageError, TableError
from records.table import ImageTable

IMAGE_SUFFIX = ".png"
# How many names an error shows of a long list.
SHOWN = 3


def list_images(sources: Sequence[str]) -> dict[str, str]:
    """Find every PNG below the sources, at any depth.

    Args:
        sources: folders or `s3://` prefixes.

    Returns:
        The location of each image by its file name.

    Raises:
        StorageError: a source isn't there or holds no PNG.
        TableError: two files have the same name.
    """
    found: dict[str, str] = {}
    for source in sources:
        # In either case of letters: a `.PNG` is not in the table, and is better refused than left out.
        locations = [file.location for file in storage.list_files(source)]
        images = [location for location in locations if location.lower().endswith(IMAGE_SUFFIX)]
        if not images:
            raise StorageError(f"{source}: no {IMAGE_SUFFIX} file below it; expected the NIH's images")
        for location in images:
            image_id = storage.name(location)
            if image_id in found:
                raise TableError(
                    f"{image_id} is there twice, as {found[image_id]} and {location}; "
                    "expected each image once: remove one, or name a source once"
                )
            found[image_id] = location
    return found


def check_complete(table: ImageTable, images: dict[str, str], *, allow_missing: bool) -> np.ndarray:
    """Hold the images against the table.

    Returns:
        (N,) bool, which rows of the table have an image.

    Raises:
        TableError: an image that the table doesn't have, or, unless allowed, rows without an image.
    """
    unknown = sorted(images.keys() - set(table.image_ids.tolist()))
    if unknown:
        raise TableError(
            f"{images[unknown[0]]}: not in {table.name} ({len(unknown):,} such in all); "
            "expected only images of its `Image Index` column"
        )
    present = np.fromiter((image_id in images for image_id in table.image_ids.tolist()), bool, len(table))
    if not present.all() and not allow_missing:
        missing = table.image_ids[~present]
        raise TableError(
            f"{len(missing):,} of the {len(table):,} images of {table.name} are missing, such as "
            f"{', '.join(missing[:SHOWN])}; add --allow_missing_images to convert the {present.sum():,} "
            "that are there"
        )
    return present

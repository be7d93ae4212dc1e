"""A location string, as a work item holds it -> one checked picture, wherever the image lies."""

from __future__ import annotations

from beam_pipelines import archives, zips
from beam_pipelines.checked import CheckedImage, check
from records import storage


def load(location: str, side_px: int) -> CheckedImage:
    """Read, check and reduce one image.

    Args:
        location: of a file or object, or a reference to a member of a zip or to an image of a spool.
        side_px: rows and columns of the result.

    Raises:
        ImageError: this image is bad; the message is the reason.
        StorageError: its store fails; the cause is a FileNotFoundError where a single file or object is gone.
    """
    if archives.is_reference(location):
        return archives.load(location, side_px)
    if zips.is_reference(location):
        return check(zips.read_image(location), side_px)
    return check(storage.read_bytes(location), side_px)

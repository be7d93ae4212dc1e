"""What an image file looks like from outside, wherever it lies: its name and its size."""

from __future__ import annotations

from typing import NamedTuple

from records.errors import ImageError

IMAGE_SUFFIX = ".png"
# A PNG of the NIH has 0.4 MB, 2 MB at most; more is refused before memory is taken for it.
MAX_FILE_BYTES = 64 << 20


class Found(NamedTuple):
    """Where one image lies.

    Attributes:
        location: a path, an object, a member of a zip, or a row of a spool; `reading.load` takes it.
        size_bytes: of the PNG.
        version: changes when the file is replaced, as far as its store tells without reading it.
    """

    location: str
    size_bytes: int
    version: str = ""


def is_image(path: str) -> bool:
    """Tell an image by its name; hidden files, such as the `._` twins that macOS makes, are none."""
    # In either case of letters: a `.PNG` is not in the table, and is better refused than left out.
    return path.lower().endswith(IMAGE_SUFFIX) and not path.rpartition("/")[2].startswith(".")


def check_size(size_bytes: int) -> None:
    """Refuse a file that is too large for an image.

    Raises:
        ImageError: it is.
    """
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(f"{size_bytes:,} bytes; expected an image of at most {MAX_FILE_BYTES:,}")

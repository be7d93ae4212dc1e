"""Holds what a candidate hands over against the stored records: form, pictures, labels, shuffling."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

import cv2
import numpy as np

from records.errors import CxrError

BATCH = 64
# Decoders of JPEG differ by a level here and there.
MOST_LEVELS_OFF = 3
# Of neighbours in a batch; pictures repeat in the data, so a true shuffle has some, too.
MOST_NEIGHBOURS = 0.25
_BLOCKS = 16


class Expected:
    """The stored records of one encoding, as they must come out of every candidate."""

    def __init__(self, source: Path, encoding: str) -> None:
        self._labels = np.load(source / "labels.npy")
        self._pixels = np.load(source / "pixels.npy", mmap_mode="r")
        if encoding == "jpeg":
            self._pixels = _decoded(source)
        keys = [zlib.crc32(picture) for picture in self._pixels]
        self._row = {key: row for row, key in reversed(list(enumerate(keys)))}
        self._known = {(key, labels.tobytes()) for key, labels in zip(keys, self._labels, strict=True)}
        self._side_by_side = set(itertools.pairwise(keys))
        self._signatures = np.stack([_signature(self._pixels[row]) for row in self._row.values()])

    def check(self, sample: Path, *, exact: bool, shuffled: bool) -> None:
        """Check batches that a candidate left in a file.

        Args:
            sample: .npz of images (batches, 64, 320, 320, 1) uint8 and labels (batches, 64, 14) float32.
            exact: False if only shapes and types are to be checked.
            shuffled: whether records that are neighbours in the files must not be so in the batches.

        Raises:
            CxrError: what differs.
        """
        with np.load(sample) as taken:
            images, labels = taken["images"], taken["labels"]
        form = (images.dtype.name, *images.shape[1:]), (labels.dtype.name, *labels.shape[1:])
        wanted = ("uint8", BATCH, 320, 320, 1), ("float32", BATCH, 14)
        if form != wanted:
            raise CxrError(f"its batches are {form}; expected {wanted}")
        if not exact:
            return
        keys = [self._key(image) for image in images.reshape(-1, *images.shape[2:])]
        for key, label in zip(keys, labels.reshape(-1, labels.shape[2]), strict=True):
            if (key, label.astype(np.uint8).tobytes()) not in self._known:
                raise CxrError("it hands over a picture or labels that the records don't hold")
        neighbours = np.mean([pair in self._side_by_side for pair in itertools.pairwise(keys)])
        if shuffled and neighbours > MOST_NEIGHBOURS:
            raise CxrError(f"{neighbours:.0%} of its records follow each other as in the files: not shuffled")

    def _key(self, image: np.ndarray) -> int | None:
        """Return the key of the stored picture that this one is, or None."""
        key = zlib.crc32(np.ascontiguousarray(image))
        if key in self._row:
            return key
        nearest = int(np.abs(self._signatures - _signature(image)).sum(axis=1).argmin())
        key, row = list(self._row.items())[nearest]
        levels_off = np.abs(self._pixels[row].astype(np.int16) - image).max()
        return key if levels_off <= MOST_LEVELS_OFF else None


def _decoded(source: Path) -> np.ndarray:
    """Return (N, 320, 320, 1) uint8 of the JPEG files."""
    files, ends = np.fromfile(source / "jpeg.bin", np.uint8), np.load(source / "jpeg_ends.npy")
    starts = np.concatenate([[0], ends[:-1]])
    decoded = [
        cv2.imdecode(files[start:end], cv2.IMREAD_GRAYSCALE) for start, end in zip(starts, ends, strict=True)
    ]
    return np.stack(decoded)[..., None]


def _signature(image: np.ndarray) -> np.ndarray:
    """Return the means of 16 x 16 blocks."""
    size = image.shape[0] // _BLOCKS
    return image.reshape(_BLOCKS, size, _BLOCKS, size).mean(axis=(1, 3)).reshape(-1)

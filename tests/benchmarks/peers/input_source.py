"""The pictures that every candidate of the input benchmark gets: one folder of plain arrays, N records.

    pixels.npy    (N, 320, 320, 1) uint8
    labels.npy    (N, 14) uint8
    jpeg.bin      N JPEG files, one behind the other
    jpeg_ends.npy (N,) int64, where each ends

Both encodings hold the same pictures in the same order. Needs NumPy, and simplejpeg to decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

PICTURE_SHAPE = (320, 320, 1)
PIXELS, LABELS, JPEGS, JPEG_ENDS = "pixels.npy", "labels.npy", "jpeg.bin", "jpeg_ends.npy"


class Source:
    """The records as arrays that are mapped, not read.

    Attributes:
        folder: where they lie.
        encoding: raw or jpeg.
        labels: (N, 14) uint8.
    """

    def __init__(self, folder: Path, encoding: str) -> None:
        self.folder, self.encoding = folder, encoding
        self.labels = np.load(folder / LABELS)
        if encoding == "raw":
            self._pictures = np.load(folder / PIXELS, mmap_mode="r")
        else:
            self._pictures = np.memmap(folder / JPEGS, np.uint8, mode="r")
            self._ends = np.load(folder / JPEG_ENDS)

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, number: int) -> np.ndarray:
        """Return (bytes,) uint8: a picture's pixels or its JPEG file, not copied."""
        if self.encoding == "raw":
            return self._pictures[number].reshape(-1)
        return self._pictures[self._ends[number - 1] if number else 0 : self._ends[number]]

    def __iter__(self) -> Iterator[tuple[bytes, np.ndarray]]:
        for number in range(len(self)):
            yield self.picture(number).tobytes(), self.labels[number]


def to_pixels(encoding: str, data: bytes | np.ndarray) -> np.ndarray:
    """Turn one stored picture into (320, 320, 1) uint8; raw bytes aren't copied."""
    if encoding == "raw":
        return np.frombuffer(data, np.uint8).reshape(PICTURE_SHAPE)
    import simplejpeg

    return simplejpeg.decode_jpeg(data, colorspace="GRAY")


class BatchDecoder:
    """Decodes the JPEG files of a batch in threads; libjpeg-turbo lets go of the interpreter's lock."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, files: Sequence[bytes | np.ndarray]) -> np.ndarray:
        """Return (B, 320, 320, 1) uint8."""
        images = np.empty((len(files), *PICTURE_SHAPE), np.uint8)
        if self._threads == 1:
            self._fill(images, files)
        else:
            shares = [slice(first, None, self._threads) for first in range(self._threads)]
            list(self._pool.map(lambda share: self._fill(images[share], files[share]), shares))
        return images

    def _fill(self, images: np.ndarray, files: Sequence[bytes | np.ndarray]) -> None:
        import simplejpeg

        for image, file in zip(images, files, strict=True):
            simplejpeg.decode_jpeg(file, colorspace="GRAY", buffer=image)

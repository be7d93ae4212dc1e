"""The data of the input benchmark: real pictures -> our shards, raw and JPEG -> plain arrays for all peers.

The files are names of the NIH's table, hard-linked to the images at hand (`linked_tree`), converted by this
project's own command with a random split by patient; the training split is what everybody reads. All that is
made stays below the build folder for the next run, and whatever was cut off is made anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import conversion
import linked_tree
import measured
import numpy as np
from input_candidates import ENCODINGS

from records import index, manifest
from records.errors import CxrError
from records.table import read_table

SPLIT = "train"
PICTURE_SHAPE = (320, 320, 1)
FRACTIONS = "0.8,0.1,0.1"
RECORDS_PER_SHARD = 256
_DONE = "complete"


class InputData:
    """Folders of the benchmark's data.

    Attributes:
        source: plain arrays (`peers/input_source.py` describes them) and the list of PNGs.
        shards: our data set of each encoding.
        records: in the training split.
    """

    def __init__(self, build: Path, files: int) -> None:
        """Make what isn't there yet.

        Raises:
            CxrError: the sample of real images isn't whole, or a conversion failed.
        """
        sample = linked_tree.sample_folder()
        self._work = build / "bench-input" / f"data-{files}"
        images = linked_tree.build(sample, linked_tree.image_names(sample, files), build / "linked")
        self.shards = {
            encoding: made(
                self._work / f"shards-{encoding}",
                lambda folder, encoding=encoding: _convert(sample, images, folder, encoding),
            )
            for encoding in ENCODINGS
        }
        self.source = made(self._work / "source", lambda folder: self._write_source(sample, images, folder))
        self.records = len(np.load(self.source / "labels.npy"))

    def folder(self, peer: str, encoding: str) -> Path:
        """Return where a peer's own files belong."""
        return self._work / f"{peer}-{encoding}"

    def _write_source(self, sample: Path, images: Path, folder: Path) -> None:
        ends, labels = [], []
        raw = manifest.load(str(self.shards["raw"]))
        pixels = np.lib.format.open_memmap(
            folder / "pixels.npy", "w+", np.uint8, (raw.splits[SPLIT].images, *PICTURE_SHAPE)
        )
        for number, (picture, record_labels) in enumerate(_stored(raw)):
            pixels[number] = picture.reshape(PICTURE_SHAPE)
            labels.append(record_labels)
        pixels.flush()
        with (folder / "jpeg.bin").open("wb") as file:
            for picture, _ in _stored(manifest.load(str(self.shards["jpeg"]))):
                file.write(picture.tobytes())
                ends.append(file.tell())
        np.save(folder / "jpeg_ends.npy", np.array(ends, np.int64))
        np.save(folder / "labels.npy", np.stack(labels))
        table = read_table(str(sample / linked_tree.TABLE))
        by_name = dict(zip(table.image_ids.tolist(), table.labels.tolist(), strict=True))
        conversion.write_work(folder / "pngs.json", images, by_name)
        if len(ends) != len(labels):
            raise CxrError(f"{folder}: {len(labels)} raw records and {len(ends)} JPEG ones; expected as many")


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled, now or in an earlier run."""
    done = folder.with_name(f"{folder.name}.{_DONE}")
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        for path in folder.rglob("*"):
            if path.is_file():
                _sync(path)
        done.touch()
    return folder


def _sync(path: Path) -> None:
    """Bring a file to the disk: only then can it leave the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _convert(sample: Path, images: Path, folder: Path, encoding: str) -> None:
    flags = ["--split", "random", "--fractions", FRACTIONS, "--encoding", encoding]
    flags += ["--records_per_shard", str(RECORDS_PER_SHARD), "--allow_missing_images"]
    measured.run(
        conversion.command(sample, images, folder, flags), folder.with_name(f"convert-{encoding}.log")
    )


def _stored(data_set: manifest.Manifest) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the stored picture, (bytes,) uint8, and the (14,) uint8 labels of each record of the split."""
    split = data_set.splits[SPLIT]
    rows = index.from_bytes(manifest.read_checked(data_set, split.index), data_set.locate(split.index))
    for number, shard in enumerate(split.shards):
        data = np.fromfile(data_set.locate(shard), np.uint8)
        for row in rows[rows["shard"] == number]:
            image, labels = int(row["image_offset"]), int(row["labels_offset"])
            yield data[image : image + int(row["image_bytes"])], data[labels : labels + 14]

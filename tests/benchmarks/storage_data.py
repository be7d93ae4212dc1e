"""The data set of the storage benchmark: converted from real images or found; and as plain arrays."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import conversion
import linked_tree
import numpy as np

from records import index, manifest
from records.errors import CxrError, UsageError
from records.labels import FINDINGS
from records.manifest import Manifest

SHARD_RECORDS = 256
# Written last into the folder of a format that is whole.
DONE = ".whole"


@dataclass(frozen=True)
class DataSet:
    """A data set in a folder.

    Attributes:
        folder: of the manifest and everything it names.
        manifest: of the data set.
        images: training records.
        size_bytes: of the training shards.
    """

    folder: Path
    manifest: Manifest
    images: int
    size_bytes: int


def prepare(named: str | None, files: int, build: Path) -> DataSet:
    """Return the data set that is named, or convert one, which is kept for the next run.

    Args:
        named: folder or manifest; None: convert.
        files: real images to convert.
        build: takes the linked images and the data set.

    Raises:
        UsageError: its pictures aren't raw.
        CxrError: it can't be read or made.
    """
    folder = build / "bench-storage" / f"data-{files}"
    if not named and not (folder / manifest.FILE_NAME).is_file():
        _convert(files, build, folder)
    found = manifest.load(named or str(folder))
    if found.image["encoding"] != "raw":
        raise UsageError(f"{found.location}: pictures as {found.image['encoding']}; expected raw ones")
    split = found.splits["train"]
    return DataSet(Path(found.folder), found, split.images, sum(shard.size_bytes for shard in split.shards))


def as_arrays(data: DataSet, folder: Path) -> tuple[Path, Path]:
    """Write the training pictures, (N, S, S, 1) uint8, and labels, (N, 14) uint8; return both files.

    They are what peers make their own formats of.
    """
    pixels_path, labels_path = folder / "pixels.npy", folder / "labels.npy"
    if labels_path.is_file():
        return pixels_path, labels_path
    folder.mkdir(parents=True, exist_ok=True)
    split, side_px = data.manifest.splits["train"], data.manifest.image["side_px"]
    rows = index.from_bytes(manifest.read_checked(data.manifest, split.index), split.index.path)
    pixels = np.lib.format.open_memmap(pixels_path, "w+", np.uint8, (len(rows), side_px, side_px, 1))
    labels = np.empty((len(rows), len(FINDINGS)), np.uint8)
    for number, shard in enumerate(split.shards):
        stored = np.fromfile(data.manifest.locate(shard), np.uint8)
        for row in np.flatnonzero(rows["shard"] == number):
            image, label = int(rows["image_offset"][row]), int(rows["labels_offset"][row])
            pixels[row] = stored[image : image + side_px**2].reshape(side_px, side_px, 1)
            labels[row] = stored[label : label + len(FINDINGS)]
    pixels.flush()
    np.save(labels_path, labels)
    return pixels_path, labels_path


def _convert(files: int, build: Path, folder: Path) -> None:
    sample = linked_tree.sample_folder()
    tree = linked_tree.build(sample, linked_tree.image_names(sample, files), build / "linked")
    flags = ["--split", "official", "--allow_missing_images", "--records_per_shard", str(SHARD_RECORDS)]
    print(f"converting {files:,} images ...", file=sys.stderr)
    done = subprocess.run(
        [*conversion.command(sample, tree, folder, flags), "--resume"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise CxrError(f"the conversion failed with exit code {done.returncode}; it last said: {said[-1]}")

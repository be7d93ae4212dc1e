"""A tree of PNGs with the names of the NIH's table, as hard links to the few real images that are at hand.

The folders are the NIH's: `images_001/images` to `images_012/images`, in the order of the names. An image
that the sample has stands under its own name; every other name is linked to one of the sample's at random,
from a fixed seed. The originals are copied once into the build folder, since a hard link can't leave its file
system.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from records.errors import StorageError, UsageError
from records.table import read_table

TABLE = "labels/Data_Entry_2017_v2020.csv.gz"
TRAIN_VAL_LIST = "labels/train_val_list.txt"
TEST_LIST = "labels/test_list.txt"
# The NIH's first folder holds 4,999 images, each of the others 10,000 and the last what is left.
FIRST_FOLDER_IMAGES, FOLDER_IMAGES = 4_999, 10_000
SEED = 17
_DONE = "links.json"


def sample_folder() -> Path:
    """Return the folder of real data that NIH_SAMPLE_DIR names.

    Raises:
        UsageError: it is not set, or holds no images or no table.
    """
    named = os.environ.get("NIH_SAMPLE_DIR", "")
    if not named:
        raise UsageError(
            "NIH_SAMPLE_DIR is not set; expected a folder with real images in images/ and the NIH's table "
            "and lists in labels/"
        )
    folder = Path(named)
    for part in (TABLE, TRAIN_VAL_LIST, TEST_LIST):
        if not (folder / part).is_file():
            raise UsageError(
                f"NIH_SAMPLE_DIR={folder}: no {part}; expected the NIH's table and lists in labels/"
            )
    if not any((folder / "images").glob("*.png")):
        raise UsageError(f"NIH_SAMPLE_DIR={folder}: no .png in images/; expected some of the NIH's images")
    return folder


def image_names(sample: Path, count: int | None = None) -> list[str]:
    """Return the first `count` image names of the real table in the order of names, or all."""
    names = sorted(read_table(str(sample / TABLE)).image_ids.tolist())
    if count is not None and not 0 < count <= len(names):
        raise UsageError(f"--files={count}; expected 1 to {len(names)}, the rows of the table")
    return names[:count]


def build(sample: Path, names: Sequence[str], build_folder: Path) -> Path:
    """Make the tree, unless it stands there whole; return its folder.

    Args:
        sample: folder with the real images in `images/`.
        names: sorted names that the tree shall have.
        build_folder: takes `originals/` and `tree-<number of names>/`.

    Raises:
        StorageError: the file system has no hard links.
    """
    originals = _copy_originals(sample / "images", build_folder / "originals")
    tree = build_folder / f"tree-{len(names)}"
    state = {"names": len(names), "first": names[0], "last": names[-1], "originals": len(originals)}
    done = build_folder / f"{tree.name}.{_DONE}"
    if done.is_file() and json.loads(done.read_text()) == state:
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    by_name = {path.name: path for path in originals}
    chooser = random.Random(SEED)
    for number, name in enumerate(names):
        link = tree / folder_of(number) / name
        if (
            number == 0
            or number == FIRST_FOLDER_IMAGES
            or (number - FIRST_FOLDER_IMAGES) % FOLDER_IMAGES == 0
        ):
            link.parent.mkdir(parents=True)
        drawn = chooser.choice(originals)
        _link(by_name.get(name, drawn), link)
    done.write_text(json.dumps(state))
    return tree


def folder_of(number: int) -> str:
    """Return the folder in which the NIH keeps the image of this number, counted from 0 in name order."""
    if number < FIRST_FOLDER_IMAGES:
        return "images_001/images"
    return f"images_{(number - FIRST_FOLDER_IMAGES) // FOLDER_IMAGES + 2:03d}/images"


def warm(originals: Path) -> int:
    """Read every original once, so that all that is measured finds them in memory; return their bytes."""
    return sum(len(path.read_bytes()) for path in originals.glob("*.png"))


def _copy_originals(images: Path, originals: Path) -> list[Path]:
    """Copy the sample beside the tree once; return the copies, sorted."""
    originals.mkdir(parents=True, exist_ok=True)
    for source in images.glob("*.png"):
        copy = originals / source.name
        if not copy.is_file() or copy.stat().st_size != source.stat().st_size:
            with tempfile.NamedTemporaryFile(dir=originals, delete=False) as scratch:
                scratch.write(source.read_bytes())
            Path(scratch.name).replace(copy)
    return sorted(originals.glob("*.png"))


def _link(original: Path, link: Path) -> None:
    try:
        link.hardlink_to(original)
    except OSError as error:
        raise StorageError(
            f"{link}: no hard link can be made ({error.strerror}); put --build on a file system that has them"
        ) from error

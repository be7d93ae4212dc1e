"""Original PNGs, and batches of the small data set to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.benchmark.input_diagnosis import SPLIT
from engine.benchmark.input_stages import Source
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records.manifest import Manifest


@pytest.fixture
def pngs(tmp_path: Path) -> Path:
    folder = tmp_path / "originals" / "images_001"
    folder.mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number:08d}_000.png"), np.full((64, 64), number, np.uint8))
    return folder.parent


@pytest.fixture
def make_source() -> Iterator[Callable[..., Source]]:
    """A function that opens a data set's training split in batches of 6."""
    readers = []

    def make(data_set: Manifest, **settings) -> Source:
        reader = ShardReader(data_set, SPLIT)
        readers.append(reader)
        usual = {
            "reader": reader,
            "order": EpochOrder(reader.shard_sizes, 0, 0),
            "batch": 6,
            "threads": 2,
            "gpu": "",
            "augment": None,
        }
        return Source(**(usual | settings))

    yield make
    for reader in readers:
        reader.close()


@pytest.fixture
def source(data_set: Manifest, make_source: Callable[..., Source]) -> Source:
    return make_source(data_set)

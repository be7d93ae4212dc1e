"""A small data set of drawn PNGs with its table and lists, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from records.labels import FINDINGS, NO_FINDING

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
PATIENTS = 20
IMAGES_PER_PATIENT = 3


@dataclass(frozen=True)
class Source:
    """Where the drawn data set lies."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "table.csv"

    def arguments(self, output: Path, **changes: object) -> list[str]:
        """Flags of a conversion by the lists; a change to None removes the flag."""
        flags: dict[str, object] = {
            "images": self.folder / "images",
            "labels": self.table,
            "split": "official",
            "train_val_list": self.folder / "train_val_list.txt",
            "test_list": self.folder / "test_list.txt",
            "validation_fraction": 0.2,
            "records_per_shard": 8,
            "output": output,
            "direct_running_mode": "in_memory",
            "direct_num_workers": 1,
        }
        flags |= changes
        found = []
        for name, value in flags.items():
            if value is True:
                found.append(f"--{name}")
            elif value is not None:
                found += [f"--{name}", str(value)]
        return found


def draw(folder: Path) -> Source:
    """Draw 60 images of 20 patients, a few of them RGBA, and write table and lists."""
    images = folder / "images" / "images_001"
    images.mkdir(parents=True)
    random = np.random.Generator(np.random.Philox(3))
    rows, names = [], []
    for patient in range(1, PATIENTS + 1):
        for visit in range(IMAGES_PER_PATIENT):
            name = f"{patient:08d}_{visit:03d}.png"
            grey = cv2.resize(random.integers(0, 256, (64, 64), np.uint8), (400, 400))
            picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA) if (patient + visit) % 11 == 0 else grey
            cv2.imwrite(str(images / name), picture)
            finding = FINDINGS[(patient + visit) % 14] if patient % 3 else NO_FINDING
            rows.append(
                f"{name},{finding},{visit},{patient},{40 + patient},{'MF'[patient % 2]},PA,400,400,0.1,0.1"
            )
            names.append(name)
    cut = (PATIENTS - 5) * IMAGES_PER_PATIENT
    (folder / "table.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    (folder / "train_val_list.txt").write_text("\n".join(names[:cut]))
    (folder / "test_list.txt").write_text("\n".join(names[cut:]))
    return Source(folder)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The drawn data set; not to be changed."""
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def own_drawn(tmp_path: Path) -> Source:
    """A drawn data set that a test may spoil."""
    return draw(tmp_path / "drawn")


@pytest.fixture(scope="session")
def converted(drawn: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set as shards; not to be changed."""
    from beam_pipelines import convert

    output = tmp_path_factory.mktemp("converted") / "shards"
    if convert.main(drawn.arguments(output)):
        raise RuntimeError("the conversion of the drawn data set failed")
    return output

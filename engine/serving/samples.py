"""A data set's test split to look at: what its records say, its pictures, and the boxes that were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.heatmaps import boxed_images
from engine.input.reader import ShardReader
from engine.serving.answers import Box, Sample
from records import labels
from records.labels import FINDINGS
from records.manifest import Manifest
from records.table import read_boxes

SPLIT = "test"


class Samples:
    """The samples of a data set; its records are read once, when it is opened. Threads may share it.

    Args:
        data_set: its manifest.
        boxes: location of `BBox_List_2017.csv`; None: no boxes.

    Attributes:
        image_shape: (S, S, C) of the pictures.

    Raises:
        CxrError: the data set or the box list is at fault.
    """

    def __init__(self, data_set: Manifest, boxes: str | None = None) -> None:
        self._reader = ShardReader(data_set, SPLIT)
        self.image_shape = self._reader.image_shape
        self._samples: list[Sample] = []
        labels_of = []
        for row in range(len(self._reader)):
            # One by one: parsed records hold their pictures.
            (record,) = self._reader.records(np.array([row]))
            labels_of.append(record.labels)
            found = [FINDINGS[column] for column in np.flatnonzero(record.labels)]
            self._samples.append(Sample(id=record.image_id, findings=found, view=record.view, sex=record.sex))
        self._labels = np.array(labels_of, bool).reshape(-1, len(FINDINGS))
        self._rows = {sample.id: row for row, sample in enumerate(self._samples)}
        self._boxes = _boxes(data_set, boxes) if boxes else {}

    def __len__(self) -> int:
        return len(self._samples)

    def close(self) -> None:
        """Let go of the shards."""
        self._reader.close()

    def find(self, finding: str = "", query: str = "") -> list[Sample]:
        """Return the samples with a finding, or without any, whose image id holds `query`.

        Args:
            finding: of `FINDINGS`, or `labels.NO_FINDING`; empty: whichever.
            query: any part of an image id.
        """
        rows: np.ndarray = np.ones(len(self), bool)
        if finding == labels.NO_FINDING:
            rows = np.asarray(~self._labels.any(axis=1))
        elif finding:
            rows = np.asarray(self._labels[:, FINDINGS.index(finding)])
        return [self._samples[row] for row in np.flatnonzero(rows) if query in self._samples[row].id]

    def get(self, image_id: str) -> Sample | None:
        """Return a sample, if there is one of that id."""
        row = self._rows.get(image_id)
        return None if row is None else self._samples[row]

    def truth(self, image_id: str) -> dict[str, bool]:
        """Return what the data set says of each finding."""
        return dict(zip(FINDINGS, self._labels[self._rows[image_id]].tolist(), strict=True))

    def boxes(self, image_id: str) -> list[Box]:
        """Return what radiologists drew."""
        return self._boxes.get(image_id, [])

    def read(self, image_id: str) -> np.ndarray:
        """Read a sample's picture: (S, S, C) uint8.

        Raises:
            CxrError: a shard is missing or damaged.
        """
        images, _ = self._reader.gather(np.array([self._rows[image_id]]))
        return images[0]


def _boxes(data_set: Manifest, location: str) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    listed = read_boxes(location)
    side_px = data_set.image["side_px"]
    for one in boxed_images.select(data_set, listed, [SPLIT], FINDINGS).boxed:
        found.setdefault(one.image_id, []).extend(_shares(one.finding, one.stored / side_px))
    return found


def _shares(finding: str, boxes: np.ndarray) -> Sequence[Box]:
    return [Box(finding=finding, x=x, y=y, width=w, height=h) for x, y, w, h in boxes.tolist()]

"""The published AUROCs that a report sets its own beside, and which of them may be compared.

The numbers stand in `published.yaml`, each column with its source and with how its data were split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FILE = Path(__file__).with_name("published.yaml")

# Of the whole data set, and of its published test list: the studies used all of them.
ALL_IMAGES, OFFICIAL_TEST_IMAGES = 112_120, 25_596


@dataclass(frozen=True)
class Study:
    """One column of the table.

    Attributes:
        key: for the JSON.
        name: for readers.
        split: `official`, `stratified`, `random` or `unknown`; only one kind may be compared.
        said: the same in the study's own terms.
        auroc: by finding.
        mean: as published.
        source: where the column was read.
        note: what else must be known.
        misquoted: whether the column is a wrong quotation, shown to be recognised and never compared.
    """

    key: str
    name: str
    split: str
    said: str
    auroc: dict[str, float]
    mean: float
    source: str
    note: str = ""
    misquoted: bool = False

    def comparable(self, split: str) -> bool:
        """Whether numbers on a split of this kind may be set beside it."""
        return self.split == split != "unknown" and not self.misquoted


@dataclass(frozen=True)
class Anchor:
    """A published macro AUROC alone."""

    name: str
    split: str
    macro_auroc: str
    note: str


def load() -> tuple[list[str], list[Study], list[Anchor]]:
    """Return the findings in the table's order, its columns, and the anchors."""
    values = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    findings = values["findings"]
    studies = [
        Study(**{**study, "auroc": dict(zip(findings, study["auroc"], strict=True))})
        for study in values["studies"]
    ]
    return findings, studies, [Anchor(**anchor) for anchor in values["anchors"]]

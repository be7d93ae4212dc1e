"""The guide's oversampling: which records are repeated, and how many positions that makes of its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.input import oversampling
from engine.input.order import EpochOrder
from records import splits, table
from records.labels import FINDINGS


def labels_of(*records: tuple[str, ...]) -> np.ndarray:
    return np.array([[finding in record for finding in FINDINGS] for record in records], np.uint8)


def test_a_record_with_any_of_the_findings_is_repeated_once() -> None:
    labels = labels_of(("Hernia", "Mass"), ("Effusion",), (), ("Mass",))
    assert oversampling.repeats(labels, ("Hernia", "Mass")).tolist() == [1, 0, 0, 1]
    assert oversampling.repeats(labels, oversampling.GUIDE_FINDINGS).tolist() == [1, 0, 0, 1]


def test_no_finding_means_no_repeats() -> None:
    assert oversampling.repeats(labels_of(("Hernia",)), ()) is None


def test_the_guides_findings_are_all_but_its_four_frequent_ones() -> None:
    frequent = {"Infiltration", "Effusion", "Atelectasis", "Edema"}
    assert set(oversampling.GUIDE_FINDINGS) == set(FINDINGS) - frequent


def test_the_guides_66543_training_images_become_about_83000(nih: Path) -> None:
    images = table.read_table(str(nih / "labels" / "Data_Entry_2017_v2020.csv.gz"))
    training = splits.random_patients(images, fractions=(0.6, 0.2, 0.2), seed=0) == 0
    repeats = oversampling.repeats(images.labels[training], oversampling.GUIDE_FINDINGS)
    order = EpochOrder((int(training.sum()),), 0, 0, repeats)
    assert (order.records, order.positions_per_epoch) == (66_543, 82_992)

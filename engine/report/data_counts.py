"""The numbers behind the pictures of a data set, from the records' columns; pure functions.

N = records, F = 14 findings in `labels.FINDINGS` order, S = 3 splits in `splits.SPLITS` order. What can't be
defined, such as a share of nothing, is NaN.
"""

from __future__ import annotations

import itertools

import numpy as np

from engine.report.record_columns import Columns
from records import labels as label_order
from records.splits import SPLITS

# Below this many sick patients an AUROC of 0.8 is uncertain by about 0.06 either way.
FEW_PATIENTS = 50
# The first of each group of images a patient; a group ends where the next begins.
PATIENT_GROUPS = (1, 2, 3, 4, 5, 6, 11, 21, 51, 101)


def images_by_finding(splits: dict[str, Columns]) -> np.ndarray:
    """Return (S, F + 1) int64: images of each split with each finding; the last column has none."""
    return np.array(
        [
            [*splits[name].labels.sum(axis=0, dtype=np.int64), (~splits[name].labels.any(axis=1)).sum()]
            for name in SPLITS
        ]
    )


def patients_by_finding(splits: dict[str, Columns]) -> np.ndarray:
    """Return (S, F) int64: patients of each split with each finding in any of their images."""
    return np.array(
        [
            [len(np.unique(splits[name].patient_ids[column > 0])) for column in splits[name].labels.T]
            for name in SPLITS
        ]
    )


def findings_per_image(columns: Columns) -> np.ndarray:
    """Return (most + 1,) int64: images with 0, 1, 2, ... findings."""
    return np.bincount(columns.labels.sum(axis=1, dtype=np.int64), minlength=1)


def images_per_patient(columns: Columns) -> np.ndarray:
    """Return (P,) int64: images of each patient, in the order of their numbers."""
    return np.unique(columns.patient_ids, return_counts=True)[1]


def patient_groups(images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Count patients by how many images they have.

    Args:
        images: (P,) of each patient, at least 1.

    Returns:
        names of the groups, such as `6 to 10`, and the patients in each, up to the last that holds any.
    """
    edges = [*PATIENT_GROUPS, np.iinfo(np.int64).max]
    patients = np.histogram(images, edges)[0]
    names = [
        str(first) if end == first + 1 else f"{first} to {end - 1}"
        for first, end in itertools.pairwise(PATIENT_GROUPS)
    ]
    names.append(f"{PATIENT_GROUPS[-1]} or more")
    held = np.flatnonzero(patients)
    last = held[-1] + 1 if len(held) else 1
    return names[:last], patients[:last]


def together(label_columns: np.ndarray) -> np.ndarray:
    """Return (F, F): share of the images with the row's finding that also have the column's.

    The diagonal holds the share that have the row's finding alone.

    Args:
        label_columns: (N, F) of 0 or 1.
    """
    present = label_columns.astype(np.int64)
    counts = present.T @ present
    alone = present[present.sum(axis=1) == 1].sum(axis=0)
    images = np.diag(counts).copy()
    np.fill_diagonal(counts, alone)
    return _share(counts, images[:, None])


def frequent_combinations(label_columns: np.ndarray, most: int) -> list[tuple[str, int]]:
    """Return (findings joined by a bar, images) of the most frequent combinations of two and more."""
    several = label_columns[label_columns.sum(axis=1) > 1]
    found, counts = np.unique(several, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(label_order.decode(found[place]), int(counts[place])) for place in order]


def known_ages(columns: Columns) -> np.ndarray:
    """Return (N,) bool: the age is a number of years from 0 on."""
    return np.isfinite(columns.age_years) & (columns.age_years >= 0)


def circumstances(columns: Columns) -> dict[str, np.ndarray]:
    """Return (N,) bool for each group of images that the page counts, by its name."""
    return {
        "female": columns.sex == "F",
        "male": columns.sex == "M",
        "other sex": ~np.isin(columns.sex, ["F", "M"]),
        "PA view": columns.view == "PA",
        "AP view": columns.view == "AP",
        "other view": ~np.isin(columns.view, ["PA", "AP"]),
        "first visit": columns.follow_up == 0,
        "follow-up visit": columns.follow_up > 0,
        "age not known": ~known_ages(columns),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=shares, where=whole != 0)

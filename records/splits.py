"""Which split each image belongs to: three strategies, each of which keeps a patient's images together.

Pure functions of the label table, the strategy's settings and the seed: which images happen to be at hand
doesn't matter, so a conversion of one archive and of all twelve agree on every image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from records.errors import TableError, UsageError

if TYPE_CHECKING:  # the table brings pandas, which a command's help needs not
    from records.table import ImageTable

SPLITS = ("train", "validation", "test")
STRATEGIES = ("official", "stratified", "random")
TRAIN, VALIDATION, TEST = range(3)

# The class-imbalance guide says 60/20/20 and cuts off 0.2 of the patients, then 0.26 of the rest.
# With seed 0 this gives its 66,543 training images and their counts, to the image.
GUIDE_FRACTIONS = (0.6, 0.2, 0.2)
GUIDE_CUTS = (0.2, 0.26)


def official(
    table: ImageTable,
    train_val: Sequence[str],
    test: Sequence[str],
    *,
    validation_fraction: float,
    seed: int,
    names: tuple[str, str] = ("train_val_list", "test_list"),
) -> np.ndarray:
    """Keep the published test list; carve a stratified validation set from train_val by patient.

    Args:
        table: the label table.
        train_val: image names of the published training list.
        test: image names of the published test list.
        validation_fraction: of train_val's images, 0 <= fraction < 1.
        seed: decides between equally good assignments.
        names: what to call the two lists in errors.

    Returns:
        (N,) int8, an index into `SPLITS` for each row of the table.

    Raises:
        TableError: a list names an unknown image, both name the same image or patient, or neither names one.
    """
    _check_fraction(validation_fraction)
    in_train_val = _membership(table, train_val, names[0])
    in_test = _membership(table, test, names[1])
    _check_lists(table, in_train_val, in_test, names)
    assignment = np.full(len(table), TEST, np.int8)
    fractions = (1 - validation_fraction, validation_fraction)
    assignment[in_train_val] = _stratify(
        table.patient_ids[in_train_val], table.labels[in_train_val], fractions, seed
    )
    return assignment


def stratified(table: ImageTable, *, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Split by patient so that every split has the images and the findings that its fraction asks for.

    Args:
        table: the label table.
        fractions: of the images, for train, validation and test; they sum to 1.
        seed: decides between equally good assignments.

    Returns:
        (N,) int8, an index into `SPLITS` for each row of the table.
    """
    _check_fractions(fractions)
    return _stratify(table.patient_ids, table.labels, fractions, seed)


def random_patients(table: ImageTable, *, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Split the patients at random in two cuts: test from all, then validation from the rest.

    It is what scikit-learn's `train_test_split` gives for the patients in the table's order, but for a few
    sizes where its product of fraction and patients comes out a hair above a whole number. `GUIDE_FRACTIONS`
    is cut as the guide cuts it (`GUIDE_CUTS`): 59.2/20.8/20 % of the patients.

    Args:
        table: the label table.
        fractions: of the patients, for train, validation and test; they sum to 1.
        seed: of NumPy's frozen `RandomState`.

    Returns:
        (N,) int8, an index into `SPLITS` for each row of the table.
    """
    _check_fractions(fractions)
    test_cut, validation_cut = random_cuts(fractions)
    patients, rows = _patients_in_order(table.patient_ids)
    rest, test = _cut(np.arange(len(patients)), test_cut, seed)
    _, validation = _cut(rest, validation_cut, seed)
    by_patient = np.full(len(patients), TRAIN, np.int8)
    by_patient[validation] = VALIDATION
    by_patient[test] = TEST
    return by_patient[rows]


def random_cuts(fractions: Sequence[float]) -> tuple[float, float]:
    """Return the test cut of all patients and the validation cut of the rest."""
    if tuple(fractions) == GUIDE_FRACTIONS:
        return GUIDE_CUTS
    _, validation, test = fractions
    return test, validation / (1 - test) if test < 1 else 0.0


def _cut(patients: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut `fraction` off as `train_test_split(random_state=seed)` does; return (the rest, the cut)."""
    # The product of 0.2 and a round number may come out a hair above it.
    cut = int(np.ceil(round(fraction * len(patients), 9)))
    shuffled = patients[np.random.RandomState(seed).permutation(len(patients))]
    return shuffled[cut:], shuffled[:cut]


def _patients_in_order(patient_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct patients in order of appearance, and each row's position among them."""
    patients, first, rows = np.unique(patient_ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return patients[order], rank[rows]


def _stratify(
    patient_ids: np.ndarray, labels: np.ndarray, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Assign patients greedily, those with the rarest finding first, each to the split that misses it most.

    After Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data" (2011), with whole
    patients in place of single examples. What a split has and wants is a vector of 15 counts, images and the
    14 findings, and a patient goes where the weighted squared distance to what is wanted falls most.

    Returns:
        (N,) int8, an index into `fractions` for each row.
    """
    _, rows = _patients_in_order(patient_ids)
    counts = np.zeros((rows.max(initial=-1) + 1, labels.shape[1] + 1))
    np.add.at(counts, rows, np.column_stack([np.ones(len(labels)), labels]))
    totals = counts.sum(axis=0)
    wanted = np.outer(fractions, totals)
    # A split that wants nothing must get nothing: an image there costs more than anything elsewhere.
    scale = np.where(wanted > 0, wanted, 1e-3)
    weights = 1.0 / scale**2 * np.asarray(fractions).clip(1e-9)[:, None]
    assigned = np.zeros(len(counts), np.int8)
    lacking = wanted.copy()
    for patient in _rarest_first(counts, totals, seed):
        vector = counts[patient]
        cost = (weights * vector * (vector - 2 * lacking)).sum(axis=1)
        split = int(np.argmin(cost))
        assigned[patient] = split
        lacking[split] -= vector
    return assigned[rows]


def _rarest_first(counts: np.ndarray, totals: np.ndarray, seed: int) -> np.ndarray:
    """Order patients by their rarest finding, then by number of images, large first, then at random."""
    # Stable: which of two equally rare findings comes first must not depend on the processor's sort.
    rarity = np.argsort(np.argsort(totals, kind="stable"), kind="stable")
    # A patient without findings has only the images, the most common thing.
    rarest = np.where(counts > 0, rarity, len(totals)).min(axis=1, initial=len(totals))
    shuffled = np.random.RandomState(seed).permutation(len(counts))
    return np.lexsort((shuffled, -counts[:, 0], rarest))


def _membership(table: ImageTable, image_ids: Sequence[str], name: str) -> np.ndarray:
    wanted = np.array(image_ids, str)
    unknown = wanted[~np.isin(wanted, table.image_ids)]
    if len(unknown):
        raise TableError(
            f"{name}: names {unknown[0]}, which {table.name} doesn't have ({len(unknown)} such in all); "
            "expected names of its `Image Index` column"
        )
    return np.isin(table.image_ids, wanted)


def _check_lists(
    table: ImageTable, in_train_val: np.ndarray, in_test: np.ndarray, names: tuple[str, str]
) -> None:
    both, neither = in_train_val & in_test, ~(in_train_val | in_test)
    if both.any():
        image_id = table.image_ids[both][0]
        raise TableError(
            f"{image_id} stands in {names[0]} and in {names[1]} ({both.sum()} such in all); expected one"
        )
    shared = np.intersect1d(table.patient_ids[in_train_val], table.patient_ids[in_test])
    if len(shared):
        raise TableError(
            f"patient {shared[0]} has images in {names[0]} and in {names[1]} ({len(shared)} such patients); "
            "expected lists without a common patient"
        )
    if neither.any():
        raise TableError(
            f"{table.image_ids[neither][0]} of {table.name} stands in neither {names[0]} nor {names[1]} "
            f"({neither.sum()} such in all); expected each image in one"
        )


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise UsageError(f"a validation fraction of {fraction}; expected 0 <= fraction < 1")


def _check_fractions(fractions: Sequence[float]) -> None:
    # Written so that NaN fails.
    if len(fractions) != len(SPLITS) or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise UsageError(
            f"fractions {','.join(map(str, fractions))}; expected three of at least 0 "
            "that sum to 1, such as 0.9,0.05,0.05"
        )

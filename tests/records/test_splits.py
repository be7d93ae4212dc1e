from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from records import labels, splits
from records.errors import TableError, UsageError
from records.table import ImageTable, read_list, read_table

FRACTIONS = (0.9, 0.05, 0.05)
TRAIN, VALIDATION, TEST = range(3)

# Positive training images of the class-imbalance guide, findings in alphabetical order.
GUIDE_TRAIN_IMAGES = 66_543
GUIDE_POSITIVES = [6872, 1634, 2729, 1318, 7544, 1610, 1021, 176, 11838, 3320, 3791, 2007, 866, 3166]


def make_table(patient_ids, multi_hot) -> ImageTable:
    patient_ids = np.asarray(patient_ids, np.int64)
    rows = len(patient_ids)
    return ImageTable(
        name="table.csv",
        sha256="",
        release="v2020",
        image_ids=np.array([f"{patient:08d}_{row:03d}.png" for row, patient in enumerate(patient_ids)], str),
        patient_ids=patient_ids,
        labels=np.asarray(multi_hot, np.uint8).reshape(rows, 14),
        follow_up=np.zeros(rows, np.int64),
        age_years=np.zeros(rows, np.float32),
        sex=np.full(rows, "M"),
        view=np.full(rows, "PA"),
    )


def synthetic_table(patients: int = 4000, seed: int = 5) -> ImageTable:
    """A table like the real one: a few patients have many images, findings from common to rare."""
    generator = np.random.default_rng(seed)
    images = np.minimum(generator.geometric(0.3, patients), 60)
    patient_ids = generator.permutation(np.repeat(np.arange(1, patients + 1), images))
    prevalence = np.geomspace(0.18, 0.01, 14)
    return make_table(patient_ids, generator.random((len(patient_ids), 14)) < prevalence)


STRATEGIES = {
    "stratified": lambda table, seed: splits.stratified(table, fractions=FRACTIONS, seed=seed),
    "random": lambda table, seed: splits.random_patients(table, fractions=FRACTIONS, seed=seed),
    "official": lambda table, seed: splits.official(
        table,
        table.image_ids[table.patient_ids % 4 != 0].tolist(),
        table.image_ids[table.patient_ids % 4 == 0].tolist(),
        validation_fraction=0.1,
        seed=seed,
    ),
}


def patients_in_two_splits(table: ImageTable, assignment: np.ndarray) -> int:
    pairs = np.unique(np.column_stack([table.patient_ids, assignment]), axis=0)
    return len(pairs) - len(np.unique(table.patient_ids))


def count_errors(multi_hot: np.ndarray, in_split: np.ndarray, fraction: float) -> np.ndarray:
    """How many images of each finding a split has too many or too few, beyond 2 % of what it should have."""
    wanted = fraction * multi_hot.sum(axis=0)
    return np.abs(multi_hot[in_split].sum(axis=0) - wanted) - 0.02 * wanted


def relative_prevalence_error(table: ImageTable, assignment: np.ndarray, split: int) -> np.ndarray:
    return np.abs(table.labels[assignment == split].mean(axis=0) / table.labels.mean(axis=0) - 1)


@st.composite
def small_tables(draw) -> ImageTable:
    patient_ids = draw(st.lists(st.integers(1, 12), max_size=30))
    vectors = st.lists(st.integers(0, 1), min_size=14, max_size=14)
    rows = len(patient_ids)
    return make_table(patient_ids, draw(st.lists(vectors, min_size=rows, max_size=rows)))


def three_fractions() -> st.SearchStrategy:
    parts = st.tuples(*[st.integers(0, 20)] * 3).filter(any)
    return parts.map(lambda parts: tuple(part / sum(parts) for part in parts))


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(table=small_tables(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_any_table_is_split_completely_by_patient_and_repeatably(
    strategy: str, table: ImageTable, seed: int
) -> None:
    assignment = STRATEGIES[strategy](table, seed)
    assert assignment.shape == (len(table),)
    assert assignment.dtype == np.int8
    assert set(assignment.tolist()) <= {TRAIN, VALIDATION, TEST}
    assert patients_in_two_splits(table, assignment) == 0
    np.testing.assert_array_equal(assignment, STRATEGIES[strategy](table, seed))


@pytest.mark.parametrize("split", [splits.stratified, splits.random_patients])
@given(table=small_tables(), fractions=three_fractions())
@settings(max_examples=100)
def test_a_split_whose_fraction_is_zero_stays_empty(split, table: ImageTable, fractions) -> None:
    assignment = split(table, fractions=fractions, seed=0)
    assert not {number for number in assignment.tolist() if fractions[number] == 0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_patient_appears_in_two_splits(strategy: str) -> None:
    table = synthetic_table()
    assignment = STRATEGIES[strategy](table, 0)
    assert patients_in_two_splits(table, assignment) == 0
    assert set(assignment.tolist()) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_seed_gives_another_split(strategy: str) -> None:
    table = synthetic_table(600)
    assert (STRATEGIES[strategy](table, 0) != STRATEGIES[strategy](table, 1)).any()


def test_a_split_leaves_the_global_random_state_alone() -> None:
    table = synthetic_table(50)
    before = np.random.get_state()[1].copy()
    for strategy in STRATEGIES.values():
        strategy(table, 3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_stratified_splits_keep_the_prevalence_of_every_finding() -> None:
    table = synthetic_table()
    assignment = splits.stratified(table, fractions=FRACTIONS, seed=0)
    for split, fraction in enumerate(FRACTIONS):
        assert (assignment == split).mean() == pytest.approx(fraction, abs=0.001)
        assert count_errors(table.labels, assignment == split, fraction).max() <= 1


def test_stratified_validation_of_the_official_split_keeps_the_prevalence_of_training() -> None:
    table = synthetic_table()
    assignment = STRATEGIES["official"](table, 0)
    train_val = assignment != TEST
    assert (assignment[train_val] == VALIDATION).mean() == pytest.approx(0.1, abs=0.002)
    assert count_errors(table.labels[train_val], assignment[train_val] == VALIDATION, 0.1).max() <= 1


def test_the_official_split_honours_both_lists_to_the_image() -> None:
    table = synthetic_table(300)
    assignment = STRATEGIES["official"](table, 0)
    np.testing.assert_array_equal(assignment == TEST, table.patient_ids % 4 == 0)


def test_without_a_validation_fraction_the_official_split_is_the_two_lists() -> None:
    table = make_table([1, 2, 3], np.zeros((3, 14)))
    names = table.image_ids.tolist()
    assignment = splits.official(table, names[:2], names[2:], validation_fraction=0, seed=0)
    assert assignment.tolist() == [TRAIN, TRAIN, TEST]


@pytest.mark.parametrize("patients", [5, 10, 37, 100, 999])
@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.7, 0.1, 0.2), (0.9, 0.05, 0.05)])
def test_the_random_split_is_the_one_of_scikit_learn(patients: int, fractions) -> None:
    numbers = np.random.default_rng(patients).permutation(patients) + 1
    table = make_table(np.concatenate([numbers, numbers[::2]]), np.zeros((patients + len(numbers[::2]), 14)))
    test_cut, validation_cut = splits.random_cuts(fractions)
    rest, test = train_test_split(numbers, test_size=test_cut, random_state=3)
    train, validation = train_test_split(rest, test_size=validation_cut, random_state=3)
    assignment = splits.random_patients(table, fractions=fractions, seed=3)
    for split, expected in enumerate((train, validation, test)):
        assert set(table.patient_ids[assignment == split]) == set(expected)


def test_the_random_cuts_are_the_fractions_except_for_the_one_of_the_guide() -> None:
    assert splits.random_cuts((0.6, 0.2, 0.2)) == (0.2, 0.26)
    assert splits.random_cuts((0.7, 0.1, 0.2)) == pytest.approx((0.2, 0.125))
    assert splits.random_cuts((0.0, 0.0, 1.0)) == (1.0, 0.0)


@pytest.mark.parametrize(
    "fractions",
    [
        (0.9, 0.1),
        (0.5, 0.25, 0.2, 0.05),
        (0.9, 0.05, 0.04),
        (1.1, -0.05, -0.05),
        (0.5, float("nan"), 0.5),
        (float("nan"), 0.5, 0.5),
        (float("inf"), 0.5, 0.5),
    ],
)
@pytest.mark.parametrize("split", [splits.stratified, splits.random_patients])
def test_wrong_fractions_are_refused(split, fractions) -> None:
    with pytest.raises(UsageError, match="expected three of at least 0 that sum to 1") as caught:
        split(make_table([1, 2], np.zeros((2, 14))), fractions=fractions, seed=0)
    assert ",".join(map(str, fractions)) in str(caught.value)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_wrong_validation_fraction_is_refused(fraction: float) -> None:
    table = make_table([1, 2], np.zeros((2, 14)))
    with pytest.raises(UsageError, match=r"expected 0 <= fraction < 1"):
        splits.official(table, table.image_ids[:1], table.image_ids[1:], validation_fraction=fraction, seed=0)


# Images of the table: patient 1 has the first two, patients 2 and 3 one each.
FIRST, SECOND, THIRD, FOURTH = "00000001_000.png", "00000001_001.png", "00000002_002.png", "00000003_003.png"


@pytest.mark.parametrize(
    ("train_val", "test", "reason"),
    [
        (
            [FIRST, SECOND, "00000009_000.png"],
            [THIRD, FOURTH],
            "^tv: names 00000009_000.png, which",
        ),
        ([FIRST, SECOND], [THIRD, FOURTH, "x.png"], "^te: names x.png"),
        ([FIRST, SECOND, THIRD], [THIRD, FOURTH], f"^{THIRD} stands in tv and in te"),
        ([FIRST, THIRD], [SECOND, FOURTH], "^patient 1 has images in tv and in te"),
        ([FIRST, SECOND, THIRD], [], f"^{FOURTH} of table.csv stands in neither tv nor te"),
        ([], [FIRST, SECOND], f"^{THIRD} of table.csv stands in neither"),
    ],
)
def test_lists_that_contradict_the_table_or_each_other_are_refused(train_val, test, reason: str) -> None:
    table = make_table([1, 1, 2, 3], np.zeros((4, 14)))
    assert table.image_ids.tolist() == [FIRST, SECOND, THIRD, FOURTH]
    with pytest.raises(TableError, match=reason):
        splits.official(table, train_val, test, validation_fraction=0.5, seed=0, names=("tv", "te"))


def test_a_table_of_the_real_size_is_stratified_in_seconds() -> None:
    table = synthetic_table(patients=30_805)
    start = time.perf_counter()
    splits.stratified(table, fractions=FRACTIONS, seed=0)
    assert time.perf_counter() - start < 5


@pytest.fixture(scope="module", params=["Data_Entry_2017.csv.gz", "Data_Entry_2017_v2020.csv.gz"])
def real(request: pytest.FixtureRequest, nih: Path) -> ImageTable:
    return read_table(str(nih / "labels" / request.param))


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [0, 1])
def test_the_published_table_is_stratified_closely(real: ImageTable, seed: int) -> None:
    assignment = splits.stratified(real, fractions=FRACTIONS, seed=seed)
    hernia = labels.FINDINGS.index("Hernia")
    assert patients_in_two_splits(real, assignment) == 0
    np.testing.assert_array_equal(assignment, splits.stratified(real, fractions=FRACTIONS, seed=seed))
    for split, fraction in enumerate(FRACTIONS):
        assert abs((assignment == split).mean() - fraction) < 0.001
        errors = relative_prevalence_error(real, assignment, split)
        assert errors[hernia] < 0.08
        assert np.delete(errors, hernia).max() < 0.02


@pytest.mark.real_data
def test_the_published_lists_are_honoured_to_the_image(real: ImageTable, nih: Path) -> None:
    train_val = read_list(str(nih / "labels" / "train_val_list.txt"))
    test = read_list(str(nih / "labels" / "test_list.txt"))
    assignment = splits.official(real, train_val, test, validation_fraction=0.1, seed=0)
    assert set(real.image_ids[assignment == TEST]) == set(test)
    assert set(real.image_ids[assignment != TEST]) == set(train_val)
    assert len(np.unique(real.patient_ids[assignment == TEST])) == 2_797
    assert patients_in_two_splits(real, assignment) == 0
    assert abs((assignment == VALIDATION).sum() / len(train_val) - 0.1) < 0.001
    assert splits.SPLITS == ("train", "validation", "test")


@pytest.mark.real_data
def test_the_random_split_gives_the_counts_of_the_guide(nih: Path) -> None:
    table = read_table(str(nih / "labels" / "Data_Entry_2017_v2020.csv.gz"))
    assignment = splits.random_patients(table, fractions=(0.6, 0.2, 0.2), seed=0)
    positives = dict(zip(labels.FINDINGS, table.labels[assignment == TRAIN].sum(axis=0), strict=True))
    assert (assignment == TRAIN).sum() == GUIDE_TRAIN_IMAGES
    assert [int(positives[finding]) for finding in sorted(positives)] == GUIDE_POSITIVES
    assert patients_in_two_splits(table, assignment) == 0
    patients = np.array(list(dict.fromkeys(table.patient_ids.tolist())))
    rest, test = train_test_split(patients, test_size=0.2, random_state=0)
    train, validation = train_test_split(rest, test_size=0.26, random_state=0)
    for split, expected in enumerate((train, validation, test)):
        np.testing.assert_array_equal(assignment == split, np.isin(table.patient_ids, expected))

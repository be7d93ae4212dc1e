from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import labels
from records.errors import TableError

PINNED_ORDER = (
    "Infiltration|Effusion|Atelectasis|Nodule|Mass|Pneumothorax|Consolidation|Pleural_Thickening|"
    "Cardiomegaly|Emphysema|Edema|Fibrosis|Pneumonia|Hernia"
)


def test_the_order_of_the_findings_is_the_pinned_one() -> None:
    assert "|".join(labels.FINDINGS) == PINNED_ORDER


@pytest.mark.parametrize("position", range(14))
def test_a_single_finding_sets_its_own_position_alone(position: int) -> None:
    encoded = labels.encode(labels.FINDINGS[position])
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == np.eye(14, dtype=int)[position].tolist()


def test_no_finding_is_all_zeros_and_back() -> None:
    assert labels.encode("No Finding").tolist() == [0] * 14
    assert labels.decode([0] * 14) == "No Finding"


@given(st.lists(st.integers(0, 1), min_size=14, max_size=14))
def test_every_multi_hot_vector_survives_the_round_trip(multi_hot: list[int]) -> None:
    assert labels.encode(labels.decode(multi_hot)).tolist() == multi_hot


@given(st.sets(st.sampled_from(labels.FINDINGS), min_size=1).flatmap(lambda s: st.permutations(sorted(s))))
def test_the_order_within_a_cell_does_not_matter(findings: list[str]) -> None:
    assert labels.decode(labels.encode("|".join(findings))).split("|") == [
        finding for finding in labels.FINDINGS if finding in findings
    ]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("Pneumonya", "unknown finding `Pneumonya` in `Pneumonya`"),
        ("Infiltrate", "unknown finding `Infiltrate`"),
        ("mass", "unknown finding `mass`"),
        (" Mass", "unknown finding ` Mass`"),
        ("", "unknown finding ``"),
        ("Mass|", "unknown finding `` in `Mass|`"),
        ("|Mass", "unknown finding ``"),
        ("Mass||Nodule", "unknown finding ``"),
        ("Mass|Nodule|Mass", "the finding `Mass` stands twice in `Mass|Nodule|Mass`"),
        ("No Finding|Mass", "`No Finding` stands beside other findings"),
        ("Mass|No Finding", "`No Finding` stands beside other findings"),
        ("No Finding|No Finding", "`No Finding` stands beside other findings"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_reason(cell: str, reason: str) -> None:
    with pytest.raises(TableError) as caught:
        labels.encode(cell)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 13, 15])
def test_a_vector_of_another_length_is_not_decoded(length: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        labels.decode([0] * length)


def test_each_alias_of_the_box_list_means_a_finding() -> None:
    assert labels.BOX_ALIASES == {"Infiltrate": "Infiltration"}
    assert set(labels.BOX_ALIASES.values()) <= set(labels.FINDINGS)

"""Weights of positives and negatives."""

from __future__ import annotations

import pytest

from records import class_weights

# What the guide to class imbalance prints for its own split of 66,543 training images, alphabetical.
GUIDE_IMAGES = 66_543
GUIDE = {
    "Atelectasis": (6872, 0.5576, 4.842),
    "Cardiomegaly": (1634, 0.5126, 20.36),
    "Consolidation": (2729, 0.5214, 12.19),
    "Edema": (1318, 0.5101, 25.24),
    "Effusion": (7544, 0.5639, 4.410),
    "Emphysema": (1610, 0.5124, 20.67),
    "Fibrosis": (1021, 0.5078, 32.59),
    "Hernia": (176, 0.5013, 189.04),
    "Infiltration": (11838, 0.6082, 2.811),
    "Mass": (3320, 0.5263, 10.02),
    "Nodule": (3791, 0.5302, 8.776),
    "Pleural_Thickening": (2007, 0.5155, 16.58),
    "Pneumonia": (866, 0.5066, 38.42),
    "Pneumothorax": (3166, 0.5250, 10.51),
}


def test_the_guides_golden_weights_come_out() -> None:
    positives = {finding: count for finding, (count, _, _) in GUIDE.items()}
    weights = class_weights.balanced(positives, GUIDE_IMAGES)
    for finding, (_, negative, positive) in GUIDE.items():
        # Printed with four digits, the last of them rounded or cut.
        assert weights[finding]["negative"] == pytest.approx(negative, abs=1.01e-4)
        assert weights[finding]["positive"] == pytest.approx(positive, rel=6e-4)


def test_a_weight_without_images_is_not_defined() -> None:
    weights = class_weights.balanced({"Hernia": 0, "Mass": 10}, 10)
    assert weights == {
        "Hernia": {"positive": None, "negative": 0.5},
        "Mass": {"positive": 0.5, "negative": None},
    }


def test_weighted_positives_and_negatives_are_equal_sums() -> None:
    (weights,) = class_weights.balanced({"Mass": 37}, 1000).values()
    assert 37 * weights["positive"] == pytest.approx(963 * weights["negative"])

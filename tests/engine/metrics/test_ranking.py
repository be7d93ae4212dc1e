"""AUROC and average precision against scikit-learn, and where they are not defined."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.metrics.ranking import auroc, average_precision, macro, micro_auroc, micro_average_precision
from records.errors import RunError

RNG = np.random.default_rng(7)


def _labels(images=500, findings=6):
    labels = (RNG.random((images, findings)) < np.linspace(0.01, 0.6, findings)).astype(np.uint8)
    labels[0], labels[1] = 0, 1
    return labels


SCORES = {
    "distinct": lambda shape: RNG.normal(size=shape),
    "tied": lambda shape: RNG.integers(0, 5, shape) / 4,
    "constant": np.ones,
    "float32": lambda shape: RNG.random(shape, dtype=np.float32),
    "saturated": lambda shape: np.clip(RNG.normal(0.5, 1, shape), 0, 1),
}


@pytest.mark.parametrize("kind", SCORES)
def test_ranking_metrics_equal_scikit_learn(kind):
    labels = _labels()
    scores = SCORES[kind](labels.shape)
    expected_auroc = [roc_auc_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)]
    expected_ap = [average_precision_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)]
    np.testing.assert_allclose(auroc(labels, scores), expected_auroc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(average_precision(labels, scores), expected_ap, rtol=0, atol=1e-12)
    assert micro_auroc(labels, scores) == pytest.approx(
        roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-12
    )
    assert micro_average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels.ravel(), scores.ravel()), abs=1e-12
    )


def test_auroc_of_a_hand_counted_case_is_exact():
    # Pairs: (3, 2) right, (3, 1) right, (1, 2) wrong, (1, 1) tied.
    assert auroc([[1], [0], [1], [0]], [[3], [2], [1], [1]])[0] == 2.5 / 4


def test_reversed_scores_give_the_complement():
    labels = _labels()
    scores = RNG.normal(size=labels.shape)
    np.testing.assert_allclose(auroc(labels, scores) + auroc(labels, -scores), 1, atol=1e-15)


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_a_finding_without_positives_or_without_negatives_is_not_defined(metric):
    labels = np.array([[0, 1, 1], [0, 1, 0]])
    values = metric(labels, RNG.random(labels.shape))
    assert np.isnan(values).tolist() == [True, True, False]
    assert values.dtype == np.float64


def test_no_images_leave_every_finding_undefined():
    assert np.isnan(auroc(np.zeros((0, 3)), np.zeros((0, 3)))).all()


def test_macro_averages_the_defined_findings_alone():
    assert macro([0.5, np.nan, 1.0]) == 0.75
    assert np.isnan(macro([np.nan, np.nan]))
    assert np.isnan(macro([]))


def test_infinite_logits_are_ranked():
    assert auroc([[1], [0], [0]], [[np.inf], [-np.inf], [0.0]])[0] == 1


def test_nan_scores_are_refused_with_their_number():
    scores = np.zeros((4, 2))
    scores[1] = np.nan
    scores[2, 0] = np.nan
    with pytest.raises(RunError, match="3 of 8 predictions are NaN, in 2 of 4 images"):
        auroc(np.zeros((4, 2)), scores)


def test_shapes_that_differ_are_refused():
    with pytest.raises(RunError, match=r"\(3, 2\) for labels of shape \(4, 2\)"):
        auroc(np.zeros((4, 2)), np.zeros((3, 2)))
    with pytest.raises(RunError, match="images, findings"):
        auroc(np.zeros(4), np.zeros(4))


def test_labels_other_than_zero_and_one_are_refused():
    with pytest.raises(RunError, match="2 of 3 labels"):
        auroc(np.array([[1], [-1], [np.nan]]), np.zeros((3, 1)))

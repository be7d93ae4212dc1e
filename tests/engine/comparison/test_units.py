"""Trainings of one comparison differ in nothing but the loss, and repeat to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fabricated_comparison import settings

from engine.comparison import trainings, units
from engine.comparison.trainings import Outcome
from engine.input.order import EpochOrder
from records.manifest import Manifest

pytestmark = pytest.mark.slow


def _trained(data_set: Manifest, *overrides: str) -> list[Outcome]:
    """The outcomes of all losses with seed 1."""
    config = settings("comparison.seeds=[1]", *overrides)
    rates = [config.learning_rates[0]] * len(config.comparison.losses)
    return [
        units.train(training.config, data_set, lambda: None) for training in trainings.counted(config, rates)
    ]


@pytest.fixture(scope="module")
def module_data_set(tmp_path_factory: pytest.TempPathFactory, write_data_set) -> Manifest:
    """A data set without a test split."""
    whole = write_data_set(tmp_path_factory.mktemp("data"))
    return dataclasses.replace(whole, splits={name: whole.splits[name] for name in ("train", "validation")})


@pytest.fixture(scope="module")
def outcomes(module_data_set: Manifest) -> list[Outcome]:
    """Of three losses with one seed and varied pictures."""
    return _trained(module_data_set, "augment.zoom=0.1", "model.dropout=0.5")


def test_all_losses_begin_with_the_same_weights_and_get_the_same_records_in_the_same_order(outcomes) -> None:
    for same in ("initial_weights", "record_order", "steps"):
        assert len({getattr(outcome, same) for outcome in outcomes}) == 1
    assert outcomes[0].steps == 5
    assert len({outcome.logits.tobytes() for outcome in outcomes}) == len(outcomes)
    assert all(outcome.logits.shape == (5, 14) for outcome in outcomes)


def test_a_training_repeats_itself_to_the_bit(outcomes, module_data_set: Manifest) -> None:
    (again,) = _trained(
        module_data_set, "augment.zoom=0.1", "model.dropout=0.5", "comparison.losses=[{name: bce}]"
    )
    assert again.logits.tobytes() == outcomes[0].logits.tobytes()
    assert again.last_loss == outcomes[0].last_loss


def test_the_hash_of_the_order_is_of_rows_where_all_labels_are_alike() -> None:
    def order_of(seed: int) -> str:
        watched = units._Watched(EpochOrder((6,), seed, 0), 3)
        alike = (None, np.ones((3, 14), np.float32))
        assert len(list(watched.noted(iter([alike] * 4)))) == 4
        return watched.record_order

    assert order_of(1) == order_of(1)
    assert order_of(1) != order_of(2)


def test_another_seed_begins_with_other_weights_and_has_another_order(
    outcomes, module_data_set: Manifest
) -> None:
    (other,) = _trained(module_data_set, "comparison.seeds=[5]", "comparison.losses=[{name: bce}]")
    assert other.initial_weights != outcomes[0].initial_weights
    assert other.record_order != outcomes[0].record_order


def test_a_loss_that_becomes_no_number_ends_its_training_and_nothing_else(module_data_set: Manifest) -> None:
    (outcome,) = _trained(
        module_data_set,
        "comparison.losses=[{name: bce}]",
        "comparison.epochs=20",
        "optimizer.learning_rate=1e30",
        "schedule={name: constant}",
    )
    assert outcome.diverged
    assert outcome.steps < 100
    assert np.isnan(outcome.auroc).all()


def test_a_last_step_that_spoils_the_weights_counts_as_diverged(module_data_set: Manifest) -> None:
    (outcome,) = _trained(
        module_data_set,
        "comparison.losses=[{name: bce}]",
        "comparison.global_batch=20",
        "optimizer.learning_rate=1e38",
        "schedule={name: constant}",
    )
    assert outcome.steps == 1
    assert outcome.diverged
    assert np.isnan(outcome.logits).all()

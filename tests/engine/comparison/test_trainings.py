"""A training is known by its file: what it was of, and whether it is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated_comparison import outcome, settings

from engine.comparison import trainings
from records.errors import RunError


def test_each_loss_is_trained_with_each_seed_and_tuned_with_each_rate_by_a_seed_of_its_own() -> None:
    config = settings("comparison.learning_rates=[0.001, 0.01]")
    tuning = [training.config for training in trainings.tuning(config)]
    assert len(tuning) == 3 * 2
    assert {one.train.seed for one in tuning} == {config.comparison.tuning_seed}
    counted = [training.config for training in trainings.counted(config, [0.001, 0.01, 0.001])]
    assert [(one.loss.name, one.optimizer.learning_rate, one.train.seed) for one in counted] == [
        (name, rate, seed)
        for seed in (1, 2)
        for name, rate in (("bce", 0.001), ("smoothed_bce", 0.01), ("macro_f1", 0.001))
    ]
    assert trainings.tuning(settings("comparison.learning_rates=[0.001]")) == []


def test_losses_of_one_name_are_told_apart_by_the_keys_in_which_they_differ() -> None:
    losses = "[{name: bce}, {name: focal, alpha: 0.25, gamma: 2}, {name: focal, alpha: 0.25, gamma: 3}]"
    config = settings(f"comparison.losses={losses}")
    assert trainings.labels_of(config.comparison.losses) == ["bce", "focal (gamma 2)", "focal (gamma 3)"]
    names = [training.name for training in trainings.counted(config, [0.1] * 3)]
    assert names[1] == "focal,alpha=0.25,gamma=2,rate=0.1,seed=1"
    assert len(set(names)) == len(names)


def test_rates_and_keys_that_differ_in_their_last_digits_have_files_of_their_own() -> None:
    rates = [0.01, 0.0100000001, 1e-7]
    losses = (
        "[{name: bce}, {name: focal, alpha: 0.25, gamma: 2}, {name: focal, alpha: 0.25, gamma: 2.00000001}]"
    )
    config = settings(f"comparison.learning_rates={rates}", f"comparison.losses={losses}")
    names = [training.name for training in trainings.tuning(config)]
    assert len(set(names)) == 9
    assert names[:3] == [f"bce,rate={rate},seed=0" for rate in ("0.01", "0.0100000001", "1e-07")]
    assert trainings.labels_of(config.comparison.losses)[1:] == [
        "focal (gamma 2)",
        "focal (gamma 2.00000001)",
    ]


def test_what_a_training_gave_is_read_back(tmp_path: Path) -> None:
    first, second = trainings.counted(settings(), [0.003] * 3)[:2]
    kept = trainings.Outcomes(tmp_path, "hash")
    assert kept.read(first) is None
    kept.write(first, outcome(1.0))
    kept.write(second, outcome(0, diverged=True))
    read = kept.read(first)
    assert read is not None
    for name, value in vars(outcome(1.0)).items():
        np.testing.assert_array_equal(getattr(read, name), value)
    assert not read.diverged
    diverged = kept.read(second)
    assert diverged is not None
    assert diverged.diverged


def test_a_training_of_another_comparison_is_refused_and_a_damaged_one_named(tmp_path: Path) -> None:
    (training, *_) = trainings.counted(settings(), [0.003] * 3)
    trainings.Outcomes(tmp_path, "hash").write(training, outcome(1.0))
    with pytest.raises(RunError, match=r"seed=1\.npz: a training on another data set; choose another --out"):
        trainings.Outcomes(tmp_path, "other").read(training)
    (longer, *_) = trainings.counted(settings("comparison.epochs=2"), [0.003] * 3)
    with pytest.raises(RunError, match=r"a comparison with another config; choose another --out"):
        trainings.Outcomes(tmp_path, "hash").read(longer)
    (elsewhere, *_) = trainings.counted(settings("input.cache_bytes=1"), [0.003] * 3)
    assert trainings.Outcomes(tmp_path, "hash").read(elsewhere) is not None
    (path,) = tmp_path.rglob("*.npz")
    for damaged in (path.read_bytes()[:100], b"", b"x" * 500):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"damaged .*; remove it to have it trained again"):
            trainings.Outcomes(tmp_path, "hash").read(training)

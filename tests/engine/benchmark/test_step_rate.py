"""The benchmark of the training step as a whole: what it measures, prints and refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import cv2
import keras
import pytest
import tensorflow as tf

from engine import config as configs
from engine.benchmark import step_rate
from engine.benchmark.step_figures import VariantRates
from engine.benchmark.step_options import Options, Variant
from engine.benchmark.step_parts import StepParts
from engine.benchmark.step_variant import OUT_OF_MEMORY
from engine.training import devices
from records.errors import ConfigError, ManifestError, UsageError
from records.manifest import Manifest

ROOT = Path(__file__).parents[3]
# The smallest network there is, on the small data set's 32 px.
TINY = (
    "model.image_side_px=32",
    "model.filters=[2]",
    "model.kernel_px=3",
    "input.oversampled_findings=[]",
    "augment.originals=true",
    "augment.rotation_degrees=0",
    "augment.zoom=0",
    "train.global_batch=4",
    "train.precision=float32",
)


def tiny(*overrides: str) -> configs.Config:
    return configs.load(str(ROOT / "configs/guide.yaml"), [*TINY, *overrides])


def options(**changed) -> Options:
    usual = {"precisions": ("float32",), "compilations": ("never",), "batches": (4,), "steps": 2, "rounds": 2}
    return Options(**(usual | changed))


def test_every_variant_has_its_rates_and_parts_beside_real_input(data_set: Manifest) -> None:
    asked = options(precisions=("float32", "mixed_float16"), batches=(4, 8))
    found = step_rate.measure(tiny(), data_set, asked)
    assert [(one.precision, one.batch) for one in found.variants] == list(
        itertools.product(("float32", "mixed_float16"), (4, 8))
    )
    for one in found.variants:
        assert_measured(one)
        assert one.real.images == one.synthetic.images == 2 * 2 * one.batch
        assert one.real_share > 0
        assert 0 <= one.stall_share < 1
    assert found.image_shape == (32, 32, 1)
    assert found.parameters > 0
    assert keras.config.dtype_policy().name == "float32"


def test_without_a_data_set_there_are_synthetic_batches_alone() -> None:
    found = step_rate.measure(tiny(), None, options(steps=1, rounds=1))
    (one,) = found.variants
    assert_measured(one)
    assert (one.real, one.real_share, one.stall_share) == (None, None, None)
    assert found.image_shape == (320, 320, 1)


@pytest.mark.parametrize("zoom", [0, 0.2])
def test_pictures_are_varied_in_all_batches_or_in_none(data_set: Manifest, zoom: float) -> None:
    found = step_rate.measure(tiny(f"augment.zoom={zoom}"), data_set, options(steps=1, rounds=1))
    assert_measured(found.variants[0])
    assert found.augmented == (zoom > 0)


def test_a_batch_holds_no_more_than_the_data_set(data_set: Manifest) -> None:
    found = step_rate.measure(tiny(), data_set, options(batches=(64,), steps=1, rounds=1))
    assert found.variants[0].batch == 20


def test_whole_steps_can_be_measured_alone(data_set: Manifest) -> None:
    found = step_rate.measure(tiny(), data_set, options(steps=1, rounds=1, breakdown=False))
    (one,) = found.variants
    assert one.step.median > 0
    assert (one.forward, one.backward, one.optimizer) == (None, None, None)


def test_xla_compiles_the_step_and_its_parts(data_set: Manifest) -> None:
    asked = options(compilations=("never", "always"), steps=1, rounds=1)
    plain, compiled = step_rate.measure(tiny(), data_set, asked).variants
    assert (plain.is_compiled, compiled.is_compiled) == (False, True)
    assert_measured(compiled)


def test_a_variant_that_memory_has_no_room_for_is_named_and_the_others_are_measured(
    data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = StepParts.run_first

    def too_large(self: StepParts, batches) -> float:
        inputs, _ = next(batches)
        if len(inputs) == 8:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return first(self, batches)

    monkeypatch.setattr(StepParts, "run_first", too_large)
    asked = options(batches=(8, 4), steps=1, rounds=1)
    large, small = step_rate.measure(tiny(), data_set, asked).variants
    assert large.not_measured == OUT_OF_MEMORY
    assert large.synthetic is None
    assert_measured(small)


def test_the_command_prints_tables(data_set: Manifest, capsys, monkeypatch) -> None:
    without_starting_tensorflow_anew(monkeypatch)
    path = str(ROOT / "configs/guide.yaml")
    assert step_rate.run(path, TINY, data=data_set.folder, steps=1) == 0
    printed = capsys.readouterr().out
    assert "A training step of guide_cnn at 32 px, from 32 x 32 x 1 uint8" in printed
    assert "float32, 4" in printed
    assert "wanted of synthetic: 0.98" in printed


def test_the_command_prints_json_and_draws_a_chart(tmp_path: Path, data_set, capsys, monkeypatch) -> None:
    without_starting_tensorflow_anew(monkeypatch)
    chart = tmp_path / "chart.png"
    step_rate.run(
        str(ROOT / "configs/guide.yaml"),
        TINY,
        data=data_set.location,
        precisions="float32, mixed_bfloat16",
        compilations="never",
        batches="4",
        steps=1,
        png=str(chart),
        as_json=True,
    )
    printed = json.loads(capsys.readouterr().out)
    assert [one["precision"] for one in printed["variants"]] == ["float32", "mixed_bfloat16"]
    assert printed["variants"][0]["step"]["median"] > 0
    assert printed["real_goal_share"] == 0.98
    assert cv2.imread(str(chart)).shape[1] > 1000


def test_an_empty_training_split_is_refused(tmp_path: Path, write_data_set) -> None:
    empty = write_data_set(tmp_path, sizes={"train": (), "validation": (2,), "test": (2,)})
    with pytest.raises(ManifestError, match="the split `train` is empty"):
        step_rate.measure(tiny(), empty, options())


def test_a_network_for_larger_pictures_than_are_stored_is_refused(data_set: Manifest) -> None:
    with pytest.raises(ConfigError, match=r"model\.image_side_px is 64; expected at most the stored 32"):
        step_rate.measure(tiny("model.image_side_px=64"), data_set, options())


def test_another_back_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="KERAS_BACKEND is jax; the training step runs on tensorflow alone"):
        step_rate.measure(tiny(), None, options())


def test_weights_are_never_loaded(data_set: Manifest) -> None:
    config = tiny()
    named = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="/nowhere.keras"))
    found = step_rate.measure(named, data_set, options(steps=1, rounds=1, breakdown=False))
    assert found.variants[0].step.median > 0


def test_forward_and_backward_give_the_steps_own_loss_and_gradients(data_set: Manifest) -> None:
    from engine.benchmark.step_input import StepInput

    config = tiny("model.dropout=0")
    with StepInput(config, data_set) as source:
        inputs, labels = source.synthetic(4)
        parts = StepParts(Variant("float32", "never", 4), config, source.pictures)
        forward = float(parts._forward(inputs, labels))
        gradients = parts._forward_and_backward(inputs, labels)
        outcome = parts._step(inputs, labels)
    assert forward == pytest.approx(float(outcome.loss), rel=1e-5)
    assert len(gradients) == len(parts._model.trainable_variables)


def assert_measured(one: VariantRates) -> None:
    assert not one.not_measured
    assert 0 < one.synthetic.lowest_images_per_s <= one.synthetic.images_per_s
    assert one.synthetic.images_per_s <= one.synthetic.highest_images_per_s
    for part in (one.step, one.forward):
        assert 0 < part.lowest <= part.median <= part.highest
    assert None not in (one.backward, one.optimizer)
    assert one.build_s > 0
    assert one.first_step_s > 0
    assert one.peak_bytes > 1e6


def without_starting_tensorflow_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads, which the command chooses, can't be changed once it runs, as in a process of tests."""
    monkeypatch.setattr(devices, "strategy_of", lambda _: tf.distribute.get_strategy())

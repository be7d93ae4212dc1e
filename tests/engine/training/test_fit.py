"""What the config's words become: the model, the order and the batches of a run, and what is refused."""

from __future__ import annotations

import dataclasses
import random
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from engine.input import oversampling
from engine.input.order import Token
from engine.input.reader import ShardReader
from engine.training import fit, inputs, train
from engine.training.run_directory import RunDirectory
from records.errors import ConfigError
from records.manifest import Manifest


def test_pictures_are_normalised_by_the_data_sets_own_mean_and_deviation_if_asked(data_set, tiny) -> None:
    own = fit.build(tiny("model.normalisation=data_set"), data_set).get_layer("preprocess")
    assert (own.mean, own.std) == (128.0, 40.0)
    assert fit.build(tiny(), data_set).get_layer("preprocess").mean is None


def test_initial_weights_follow_from_the_seed_whatever_pauses_reading_draws_meanwhile(
    data_set, tiny, tmp_path, monkeypatch
) -> None:
    class BuiltError(Exception):
        pass

    found, ended = [], threading.Event()

    def capture(model, *_, **__) -> None:
        found.append(b"".join(weight.tobytes() for weight in model.get_weights()))
        ended.set()
        raise BuiltError

    def draw_in_the_background() -> None:
        while not ended.is_set():
            random.random()

    def begin_to_read(*_) -> None:
        random.random()
        thread = threading.Thread(target=draw_in_the_background, daemon=True)
        thread.start()
        time.sleep(0.05)

    def weights_of(number: int) -> bytes:
        ended.clear()
        directory = RunDirectory(str(tmp_path / f"run_{number}"))
        directory.start(tiny(), data_set)
        with pytest.raises(BuiltError):
            fit.fit(directory, tiny(), data_set, on_start=lambda: None, check=lambda: None)
        return found[-1]

    monkeypatch.setattr(fit.devices, "strategy_of", lambda *_, **__: tf.distribute.get_strategy())
    monkeypatch.setattr(fit, "TrainingStep", capture)
    expected = weights_of(0)
    monkeypatch.setattr(fit.inputs, "training_batches", begin_to_read)
    monkeypatch.setattr(fit.inputs, "check_shares", lambda *_: random.random())
    assert [weights_of(number) == expected for number in range(1, 4)] == [True] * 3


def test_training_pictures_of_one_grey_can_not_normalise(data_set, tiny) -> None:
    flat = dataclasses.replace(data_set, statistics={**data_set.statistics, "deviation": 0.0})
    with pytest.raises(ConfigError, match=r"model\.normalisation is data_set, but the training pictures of"):
        train._check_model(flat, tiny("model.normalisation=data_set"))


def test_oversampled_findings_repeat_their_records_in_the_order(data_set: Manifest, tiny) -> None:
    findings = oversampling.GUIDE_FINDINGS[:2]
    with ShardReader(data_set, "train") as reader:
        labels = reader.labels()
        order = inputs.epoch_order(
            tiny(f"input.oversampled_findings=[{', '.join(findings)}]"), data_set, reader
        )
    repeated = np.flatnonzero(oversampling.repeats(labels, findings))
    assert order.positions_per_epoch == 20 + len(repeated)
    rows, repeats = order.positions(0)
    assert sorted(rows[repeats > 0]) == repeated.tolist()


@pytest.mark.parametrize("reader_name", ["index", "tfrecord"])
def test_batches_carry_transforms_only_where_pictures_are_varied(data_set, tiny, reader_name: str) -> None:
    for varied in (False, True):
        config = tiny(f"input.reader={reader_name}", f"augment.zoom={0.1 if varied else 0}")
        with ShardReader(data_set, "train") as reader:
            order = inputs.epoch_order(config, data_set, reader)
            given, _ = next(iter(inputs.training_batches(config, data_set, reader, order)))
        assert isinstance(given, dict) == varied
        images = given["images"] if varied else given
        assert (images.shape, images.dtype) == ((4, 32, 32, 1), tf.uint8)


def test_batches_go_on_from_a_place_and_end_with_the_last_epoch(data_set, tiny) -> None:
    config = tiny("train.epochs=3")
    with ShardReader(data_set, "train") as reader:
        order = inputs.epoch_order(config, data_set, reader)
        whole, rest = (
            [labels.numpy() for _, labels in inputs.training_batches(config, data_set, reader, order, start)]
            for start in (None, Token(config.train.seed, 1, 2))
        )
    assert len(whole) == 15
    np.testing.assert_array_equal(whole[7:], rest)


def test_only_the_reader_without_an_order_says_that_it_can_not_go_on_in_it(data_set, tiny, capsys) -> None:
    for reader_name, said in (("index", ""), ("tfrecord", "note: the reader `tfrecord` can't go on in")):
        config = tiny(f"input.reader={reader_name}")
        with ShardReader(data_set, "train") as reader:
            order = inputs.epoch_order(config, data_set, reader)
            inputs.training_batches(config, data_set, reader, order, Token(config.train.seed, 0, 3))
        assert capsys.readouterr().err.startswith(said)


def test_a_batch_that_does_not_divide_is_refused(data_set, tiny) -> None:
    with ShardReader(data_set, "train") as reader:
        order = inputs.epoch_order(tiny(), data_set, reader)
    inputs.check_shares(tiny("train.micro_batches=2"), order, 2)
    with pytest.raises(
        ConfigError, match=r"a batch has 4 records; expected a multiple of 6 \(devices: 2, micro-batches: 3"
    ):
        inputs.check_shares(tiny("train.micro_batches=3"), order, 2)


def test_the_records_of_a_step_can_be_named_where_we_chose_them(data_set, tiny) -> None:
    with ShardReader(data_set, "train") as reader:
        order = inputs.epoch_order(tiny(), data_set, reader)
        names = inputs.image_ids_of_step(tiny(), reader, order, 1, 2)
        expected = [reader.records(np.array([row]))[0].image_id for row in order.batch(1, 2, 4).rows]
        assert names == expected
        assert inputs.image_ids_of_step(tiny("input.reader=tfrecord"), reader, order, 1, 2) == []


def test_what_a_bucket_holds_replaces_no_other_run(tiny, data_set, tmp_path) -> None:
    directory = RunDirectory(str(tmp_path / "run"))
    assert train._may_be_replaced(directory, tiny(), data_set)
    directory.start(tiny(), data_set)
    assert train._may_be_replaced(directory, tiny("checkpoint.keep_last=9"), data_set)
    assert not train._may_be_replaced(directory, tiny("train.seed=5"), data_set)

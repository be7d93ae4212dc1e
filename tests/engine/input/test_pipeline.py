"""The hand-over to tf.data: the promised order, exact resumes, each record once, safe buffers."""

from __future__ import annotations

import gc
import itertools
import mmap
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from engine.config import AugmentConfig
from engine.input import transforms
from engine.input.buffers import IDLE_BUFFERS
from engine.input.order import EpochOrder, Part, Token
from engine.input.pipeline import evaluation_batches, faults_raised, to_device, training_batches
from engine.input.png_loop import png_batches
from engine.input.reader import ShardReader
from engine.input.tfrecord_reader import tfrecord_batches
from records.errors import RunError, ShardError

Batches = list[tuple[np.ndarray, np.ndarray]]


def take(batches: tf.data.Dataset, count: int | None = None) -> Batches:
    return [(images.numpy(), labels.numpy()) for images, labels in itertools.islice(batches, count)]


def mapped_buffers() -> int:
    gc.collect()
    return sum(isinstance(found, mmap.mmap) for found in gc.get_objects())


def same(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def joined(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([images for images, _ in batches]), np.concatenate(
        [labels for _, labels in batches]
    )


@pytest.fixture
def reader(data_set):
    with ShardReader(data_set, "train") as reader:
        yield reader


@pytest.fixture
def order(reader: ShardReader) -> EpochOrder:
    return EpochOrder(reader.shard_sizes, seed=4, shuffle_block_shards=2)


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_training_batches_are_those_of_the_order_for_any_number_of_threads(reader, order, threads) -> None:
    batches = take(training_batches(reader, order, 6, threads=threads), 12)
    wanted = [reader.gather(order.batch(epoch, step, 6).rows) for epoch in range(4) for step in range(3)]
    assert same(batches, wanted)


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 0), (2, 1)])
def test_a_resumed_stream_goes_on_as_the_undisturbed_one(reader, order, epoch: int, step: int) -> None:
    undisturbed = take(training_batches(reader, order, 6), 12)
    resumed = take(training_batches(reader, order, 6, start=Token(4, epoch, step)), 4)
    assert same(resumed, undisturbed[3 * epoch + step :][:4])


def test_the_end_of_an_epoch_is_the_start_of_the_next(reader, order) -> None:
    end = take(training_batches(reader, order, 6, start=Token(4, 0, 3)), 2)
    assert same(end, take(training_batches(reader, order, 6, start=Token(4, 1, 0)), 2))


def test_training_shapes_are_static_and_the_stream_is_endless(reader, order) -> None:
    batches = training_batches(reader, order, 6)
    assert batches.element_spec == (
        tf.TensorSpec((6, 32, 32, 1), tf.uint8),
        tf.TensorSpec((6, 14), tf.float32),
    )
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY


def test_a_split_smaller_than_a_batch_trains_on_all_of_it(reader, order) -> None:
    (images, labels), _ = take(training_batches(reader, order, 64), 2)
    assert images.shape == (20, 32, 32, 1)
    assert labels.shape == (20, 14)


def test_a_token_or_an_order_of_another_run_is_refused(reader, order) -> None:
    with pytest.raises(RunError, match="resume at epoch 1, step 4 of seed 4; an epoch has 3 steps of 6"):
        training_batches(reader, order, 6, start=Token(4, 1, 4))
    with pytest.raises(RunError, match=r"an order of shards of \(20,\); the split has \(7, 7, 6\)"):
        training_batches(reader, EpochOrder((20,), 0, 0), 6)


@pytest.mark.parametrize("batch", [1, 6, 10, 20, 64])
def test_an_evaluation_sees_each_record_once_in_the_order_of_the_index(reader, batch: int) -> None:
    batches = evaluation_batches(reader, batch)
    found = take(batches)
    assert len(found) == batches.cardinality() == -(-20 // batch)
    assert same([joined(found)], [reader.gather(np.arange(20))])


def test_an_evaluation_of_an_empty_split_is_empty(tmp_path, write_data_set) -> None:
    data_set = write_data_set(tmp_path, sizes={"train": (2,), "validation": (), "test": (0,)})
    for split in ("validation", "test"):
        with ShardReader(data_set, split) as reader:
            assert take(evaluation_batches(reader, 4)) == []


def test_batches_that_are_kept_are_not_written_over(reader, order) -> None:
    batches = iter(training_batches(reader, order, 6))
    # `numpy()` would copy; these are the tensors' own memory, and all that is left of them.
    parts = [np.from_dlpack(next(batches)[0])[2:4] for _ in range(30)]
    for _ in range(60):
        next(batches)
    wanted = [reader.gather(order.batch(*divmod(number, 3), 6).rows)[0] for number in range(30)]
    assert all(np.array_equal(part, images[2:4]) for part, images in zip(parts, wanted, strict=True))


def test_a_batch_is_handed_over_without_a_copy(reader, order) -> None:
    images = next(iter(training_batches(reader, order, 6)))[0]
    assert np.shares_memory(np.from_dlpack(images), np.from_dlpack(images))
    assert np.from_dlpack(images).ctypes.data % mmap.PAGESIZE == 0


def test_evaluations_of_a_reader_share_one_pool_that_ends_with_it(data_set) -> None:
    with ShardReader(data_set, "train") as reader:
        for _ in range(20):
            for images, _ in evaluation_batches(reader, 6, prefetch=1, threads=1):
                kept = images
        gc.collect()
        assert 0 < reader.buffers(6).idle <= IDLE_BUFFERS
    assert reader.buffers(6).idle == 0
    del images, kept
    gc.collect()
    assert reader.buffers(6).idle == 0


def test_idle_buffers_are_freed_when_the_reader_closes(data_set) -> None:
    before = mapped_buffers()
    with ShardReader(data_set, "train") as reader:
        for _ in range(10):
            take(evaluation_batches(reader, 6))
            take(evaluation_batches(reader, 7))
        assert 0 < mapped_buffers() - before <= 2 * IDLE_BUFFERS + len(reader.shard_sizes)
    assert mapped_buffers() <= before


def test_an_evaluation_takes_no_more_memory_than_its_split_needs(reader) -> None:
    take(evaluation_batches(reader, 1 << 30))
    gc.collect()
    assert reader.buffers(20).idle


def test_a_batch_outlives_its_stream_and_its_reader(data_set, order) -> None:
    with ShardReader(data_set, "train") as reader:
        images = next(iter(training_batches(reader, order, 6)))[0]
        wanted = reader.gather(order.batch(0, 0, 6).rows)[0]
    assert np.array_equal(images, wanted)


def test_a_damaged_shard_surfaces_as_the_readers_own_error(data_set) -> None:
    path = Path(data_set.locate(data_set.splits["train"].shards[2]))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with (
        ShardReader(data_set, "train") as reader,
        pytest.raises(ShardError, match=r"train-00002-of-00003\.tfrecord: CRC32C"),
        faults_raised(reader),
    ):
        take(evaluation_batches(reader, 4))


def test_an_error_that_is_not_the_readers_passes_through(reader) -> None:
    with pytest.raises(tf.errors.NotFoundError), faults_raised(reader):
        tf.io.read_file("/no/such/file")


def test_tensorflows_own_reader_is_not_given_a_damaged_shard_unless_asked_to(data_set) -> None:
    path = Path(data_set.locate(data_set.splits["train"].shards[2]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    with pytest.raises(ShardError, match=r"train-00002-of-00003\.tfrecord: CRC32C"):
        tfrecord_batches(data_set, "train", 6)
    with pytest.raises(tf.errors.DataLossError):
        take(tfrecord_batches(data_set, "train", 6, verify=False))
    path.write_bytes(whole[:-1])
    with pytest.raises(ShardError, match="the file is truncated or stale"):
        tfrecord_batches(data_set, "train", 6, verify=False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_tensorflows_own_reader_finds_the_same_records(
    tmp_path, write_data_set, encoding: str, channels: int
) -> None:
    data_set = write_data_set(tmp_path, encoding=encoding, channels=channels)
    with ShardReader(data_set, "train") as reader:
        wanted = take(evaluation_batches(reader, 6))
    found = take(tfrecord_batches(data_set, "train", 6))
    assert same(found, wanted)


def test_tensorflows_own_reader_can_shuffle_and_repeat(data_set, reader) -> None:
    images, _ = reader.gather(np.arange(20))
    shuffled, _ = joined(take(tfrecord_batches(data_set, "train", 6, shuffle_buffer=20, deterministic=False)))
    assert sorted(image.tobytes() for image in shuffled) == sorted(image.tobytes() for image in images)
    endless = tfrecord_batches(data_set, "train", 6, repeat=True)
    assert sum(len(found) for found, _ in take(endless, 9)) == 54


def test_the_usual_loop_gives_scaled_colour_batches_without_end(tmp_path) -> None:
    paths = [str(tmp_path / f"{value}.png") for value in (0, 51, 255)]
    for path in paths:
        cv2.imwrite(path, np.full((64, 64), int(Path(path).stem), np.uint8))
    labels = np.eye(3, 14, dtype=np.float32)
    (images, targets), *_ = take(png_batches(paths, labels, 32, 3), 4)
    assert (images.shape, images.dtype) == ((3, 32, 32, 3), np.float32)
    values = np.array([0, 0.2, 1.0], np.float32)[targets.argmax(axis=1)]
    assert np.allclose(images, values[:, None, None, None])


VARIED = AugmentConfig(10.0, 0.1, 0.05, 0.1, 0.1, flip=False, originals=True)


def test_training_batches_carry_the_transforms_of_their_records_and_repeats(reader) -> None:
    repeats = np.ones(20, np.uint8)
    order = EpochOrder(reader.shard_sizes, 4, 2, repeats)
    batches = training_batches(reader, order, 8, start=Token(4, 1, 2), augment=VARIED)
    assert batches.element_spec[0]["transforms"] == tf.TensorSpec((8, 8), tf.float32)
    (inputs, labels) = next(iter(batches))
    rows, repeated = order.batch(1, 2, 8)
    images, wanted_labels = reader.gather(rows)
    assert np.array_equal(inputs["images"], images)
    assert np.array_equal(labels, wanted_labels)
    assert np.array_equal(inputs["transforms"], transforms.draw(VARIED, 4, 1, rows, repeated))


@pytest.mark.parametrize("threads", [1, 4])
def test_parts_carry_their_own_share_of_pictures_and_transforms(reader, order, threads) -> None:
    whole = next(iter(training_batches(reader, order, 8, augment=VARIED, threads=threads)))
    halves = [
        next(iter(training_batches(reader, order, 8, part=Part(index, 2), augment=VARIED, threads=threads)))
        for index in range(2)
    ]
    for name in ("images", "transforms"):
        assert np.array_equal(tf.concat([half[0][name] for half in halves], 0), whole[0][name])
    assert np.array_equal(tf.concat([half[1] for half in halves], 0), whole[1])


def test_batches_wait_on_a_device_unchanged(reader, order) -> None:
    found = take(to_device(training_batches(reader, order, 6), "/cpu:0", 2), 4)
    assert same(found, take(training_batches(reader, order, 6), 4))

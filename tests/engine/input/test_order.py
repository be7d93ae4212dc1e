"""The order of an epoch: pinned, complete, shuffled as far as the setting says, and cut into batches."""

from __future__ import annotations

import time

import numpy as np
import pytest

from engine.input.order import EpochOrder, Part
from records.errors import ConfigError

SIZES = (7, 7, 6)
SHARD_OF_ROW = np.repeat(np.arange(3), SIZES)


def test_the_order_is_the_one_that_earlier_versions_gave() -> None:
    # Runs resume by position: change nothing here without a new major version.
    assert EpochOrder(SIZES, 5, 0).positions(0).rows.tolist() == [
        5, 10, 7, 8, 4, 11, 13, 15, 6, 14, 3, 1, 16, 17, 9, 18, 0, 2, 19, 12,
    ]  # fmt: skip
    assert EpochOrder(SIZES, 5, 1).positions(1).rows.tolist() == [
        11, 8, 9, 13, 10, 12, 7, 0, 4, 6, 5, 1, 2, 3, 17, 18, 15, 19, 14, 16,
    ]  # fmt: skip


@pytest.mark.parametrize("block", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("sizes", [SIZES, (20,), (0, 3, 0, 4), (1,)])
def test_each_record_stands_once_in_each_epoch(sizes: tuple[int, ...], block: int) -> None:
    order = EpochOrder(sizes, seed=1, shuffle_block_shards=block)
    for epoch in range(4):
        assert sorted(order.positions(epoch).rows) == list(range(sum(sizes)))


def test_a_block_of_one_shard_keeps_shards_together_and_shuffles_within() -> None:
    rows = EpochOrder(SIZES, seed=5, shuffle_block_shards=1).positions(0).rows
    shards = SHARD_OF_ROW[rows]
    assert np.count_nonzero(np.diff(shards)) == 2
    assert any((np.diff(rows[shards == shard]) < 0).any() for shard in range(3))


def test_a_block_of_two_of_three_shards_leaves_the_third_apart() -> None:
    orders = (EpochOrder(SIZES, seed=seed, shuffle_block_shards=2).positions(0).rows for seed in range(5))
    for rows in orders:
        last = SHARD_OF_ROW[rows[-1]]
        alone = SHARD_OF_ROW[rows] == last
        assert alone[-SIZES[last] :].all()
        assert not alone[: -SIZES[last]].any()


def test_a_global_shuffle_reaches_each_position_from_each_shard_alike() -> None:
    order = EpochOrder((50, 50), seed=3, shuffle_block_shards=0)
    rows = np.array([order.positions(epoch).rows for epoch in range(400)])
    # Mean of 400 values with a deviation of 28.9: 5 standard errors are 7.2.
    assert np.abs(rows.mean(axis=0) - 49.5).max() < 7.3


def test_epochs_and_seeds_differ_and_repeat_themselves() -> None:
    order = EpochOrder(SIZES, seed=1, shuffle_block_shards=0)
    assert not np.array_equal(order.positions(0).rows, order.positions(1).rows)
    assert not np.array_equal(
        order.positions(0).rows, EpochOrder(SIZES, seed=2, shuffle_block_shards=0).positions(0).rows
    )
    assert np.array_equal(
        order.positions(7).rows, EpochOrder(SIZES, seed=1, shuffle_block_shards=0).positions(7).rows
    )


def test_batches_are_cuts_of_the_epoch_and_leave_out_the_last_partial_one() -> None:
    order = EpochOrder(SIZES, seed=1, shuffle_block_shards=0)
    assert order.steps_per_epoch(6) == 3
    batches = [order.batch(2, step, 6).rows for step in range(3)]
    assert np.array_equal(np.concatenate(batches), order.positions(2).rows[:18])


def test_a_split_smaller_than_a_batch_is_one_partial_batch() -> None:
    order = EpochOrder((3, 2), seed=1, shuffle_block_shards=0)
    assert (order.steps_per_epoch(64), order.batch_records(64)) == (1, 5)
    assert np.array_equal(order.batch(0, 0, 64).rows, order.positions(0).rows)


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_outside_of_the_epoch_is_refused(step: int) -> None:
    with pytest.raises(ConfigError, match=rf"step {step} of an epoch; expected 0 <= step < 3"):
        EpochOrder(SIZES, 1, 0).batch(0, step, 6)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (((), 0, 0), "at least one shard"),
        (((0, 0), 0, 0), "at least one shard"),
        (((3, -1), 0, 0), "at least one shard"),
        (((3,), -1, 0), "seed -1; expected 0"),
        (((3,), 1 << 64, 0), "seed 18446744073709551616; expected"),
        (((3,), 0, -2), "shuffle_block_shards -2; expected"),
    ],
)
def test_settings_that_make_no_order_are_refused(arguments: tuple, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        EpochOrder(*arguments)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 0; expected at least 1"):
        EpochOrder(SIZES, 0, 0).steps_per_epoch(0)


REPEATS = np.array([0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1], np.uint8)
PINNED_WITH_REPEATS = [
    (13, 1), (11, 0), (8, 0), (9, 0), (13, 0), (13, 2), (10, 0), (13, 3), (12, 0),
    (7, 0), (1, 0), (5, 0), (5, 1), (1, 2), (1, 1), (3, 0), (0, 0), (6, 0),
    (2, 0), (4, 0), (18, 0), (16, 0), (19, 0), (17, 0), (15, 0), (19, 1), (14, 0),
]  # fmt: skip


def test_an_order_with_repeats_is_the_one_that_earlier_versions_gave() -> None:
    rows, repeats = EpochOrder(SIZES, 5, 1, REPEATS).positions(1)
    assert list(zip(rows.tolist(), repeats.tolist(), strict=True)) == PINNED_WITH_REPEATS


@pytest.mark.parametrize("block", [0, 1, 2])
def test_each_record_and_each_of_its_repeats_stand_once_in_each_epoch(block: int) -> None:
    order = EpochOrder(SIZES, 5, block, REPEATS)
    assert order.positions_per_epoch == 27
    wanted = sorted((row, repeat) for row in range(20) for repeat in range(REPEATS[row] + 1))
    for epoch in range(3):
        assert sorted(zip(*order.positions(epoch), strict=True)) == wanted


def test_a_repeat_stays_in_the_block_of_its_shard_but_not_beside_its_record() -> None:
    order = EpochOrder(SIZES, 5, 1, REPEATS)
    rows, _ = order.positions(0)
    assert np.count_nonzero(np.diff(SHARD_OF_ROW[rows])) == 2
    thirteens = np.concatenate([np.flatnonzero(order.positions(epoch).rows == 13) for epoch in range(9)])
    assert (np.abs(np.diff(thirteens)) > 1).any()


def test_no_repeats_are_the_same_as_repeats_of_nothing() -> None:
    none = EpochOrder(SIZES, 5, 2).positions(3)
    zeros = EpochOrder(SIZES, 5, 2, np.zeros(20, np.uint8)).positions(3)
    assert np.array_equal(none, zeros)
    assert not none.repeats.any()


def test_repeats_of_another_split_are_refused() -> None:
    with pytest.raises(ConfigError, match="repeats of 19 records, from 0; expected 20, at least 0"):
        EpochOrder(SIZES, 5, 0, np.zeros(19, np.int64))
    with pytest.raises(ConfigError, match="repeats of 20 records, from -1"):
        EpochOrder(SIZES, 5, 0, np.full(20, -1))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_parts_of_a_batch_make_the_batch(parts: int) -> None:
    order = EpochOrder(SIZES, 1, 2, REPEATS)
    for step in range(order.steps_per_epoch(8)):
        whole = order.batch(1, step, 8)
        cut = [order.batch(1, step, 8, Part(index, parts)) for index in range(parts)]
        assert np.array_equal(np.concatenate(cut, axis=1), whole)


def test_a_batch_that_does_not_divide_into_the_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 6 records for 4 replicas; expected equal parts"):
        EpochOrder(SIZES, 1, 0).batch(0, 0, 6, Part(1, 4))
    with pytest.raises(ConfigError, match="part 2 of 2; expected 0 <= part < parts"):
        Part(2, 2)


@pytest.mark.parametrize("repeats", [None, REPEATS])
@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("sizes", [SIZES, (0, 13, 0, 7)])
def test_a_batch_lies_within_the_blocks_that_it_is_said_to_touch(sizes, block: int, repeats) -> None:
    order = EpochOrder(sizes, 5, block, repeats)
    shard_of_row = np.repeat(np.arange(len(sizes)), sizes)
    for epoch in range(3):
        blocks = order.blocks(epoch)
        assert len(blocks) == order.blocks_per_epoch
        assert sorted(shard for within in blocks for shard in within) == list(range(len(sizes)))
        block_of_shard = {shard: number for number, within in enumerate(blocks) for shard in within}
        for step in range(order.steps_per_epoch(6)):
            touched = {block_of_shard[shard] for shard in shard_of_row[order.batch(epoch, step, 6).rows]}
            assert order.block_span(epoch, step, 6) == (min(touched), max(touched))


def test_an_order_of_the_whole_set_is_found_in_under_a_second_of_cpu() -> None:
    # A resume needs no more than this: the order of its epoch.
    order = EpochOrder((512,) * 219, 1, 0)
    start_s = time.process_time()
    order.batch(7, 1000, 64)
    assert time.process_time() - start_s < 1

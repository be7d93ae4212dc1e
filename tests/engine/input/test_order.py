"""The order of an epoch: pinned, complete, shuffled as far as the setting says, and cut into batches."""

from __future__ import annotations

import numpy as np
import pytest

from engine.input.order import EpochOrder
from records.errors import ConfigError

SIZES = (7, 7, 6)
SHARD_OF_ROW = np.repeat(np.arange(3), SIZES)


def test_the_order_is_the_one_that_earlier_versions_gave() -> None:
    # Runs resume by position: change nothing here without a new major version.
    assert EpochOrder(SIZES, 5, 0).rows(0).tolist() == [
        5, 10, 7, 8, 4, 11, 13, 15, 6, 14, 3, 1, 16, 17, 9, 18, 0, 2, 19, 12,
    ]  # fmt: skip
    assert EpochOrder(SIZES, 5, 1).rows(1).tolist() == [
        11, 8, 9, 13, 10, 12, 7, 0, 4, 6, 5, 1, 2, 3, 17, 18, 15, 19, 14, 16,
    ]  # fmt: skip


@pytest.mark.parametrize("block", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("sizes", [SIZES, (20,), (0, 3, 0, 4), (1,)])
def test_each_record_stands_once_in_each_epoch(sizes: tuple[int, ...], block: int) -> None:
    order = EpochOrder(sizes, seed=1, shuffle_block_shards=block)
    for epoch in range(4):
        assert sorted(order.rows(epoch)) == list(range(sum(sizes)))


def test_a_block_of_one_shard_keeps_shards_together_and_shuffles_within() -> None:
    rows = EpochOrder(SIZES, seed=5, shuffle_block_shards=1).rows(0)
    shards = SHARD_OF_ROW[rows]
    assert np.count_nonzero(np.diff(shards)) == 2
    assert any((np.diff(rows[shards == shard]) < 0).any() for shard in range(3))


def test_a_block_of_two_of_three_shards_leaves_the_third_apart() -> None:
    orders = (EpochOrder(SIZES, seed=seed, shuffle_block_shards=2).rows(0) for seed in range(5))
    for rows in orders:
        last = SHARD_OF_ROW[rows[-1]]
        alone = SHARD_OF_ROW[rows] == last
        assert alone[-SIZES[last] :].all()
        assert not alone[: -SIZES[last]].any()


def test_a_global_shuffle_reaches_each_position_from_each_shard_alike() -> None:
    order = EpochOrder((50, 50), seed=3, shuffle_block_shards=0)
    rows = np.array([order.rows(epoch) for epoch in range(400)])
    # Mean of 400 values with a deviation of 28.9: 5 standard errors are 7.2.
    assert np.abs(rows.mean(axis=0) - 49.5).max() < 7.3


def test_epochs_and_seeds_differ_and_repeat_themselves() -> None:
    order = EpochOrder(SIZES, seed=1, shuffle_block_shards=0)
    assert not np.array_equal(order.rows(0), order.rows(1))
    assert not np.array_equal(order.rows(0), EpochOrder(SIZES, seed=2, shuffle_block_shards=0).rows(0))
    assert np.array_equal(order.rows(7), EpochOrder(SIZES, seed=1, shuffle_block_shards=0).rows(7))


def test_batches_are_cuts_of_the_epoch_and_leave_out_the_last_partial_one() -> None:
    order = EpochOrder(SIZES, seed=1, shuffle_block_shards=0)
    assert order.steps_per_epoch(6) == 3
    batches = [order.batch_rows(2, step, 6) for step in range(3)]
    assert np.array_equal(np.concatenate(batches), order.rows(2)[:18])


def test_a_split_smaller_than_a_batch_is_one_partial_batch() -> None:
    order = EpochOrder((3, 2), seed=1, shuffle_block_shards=0)
    assert (order.steps_per_epoch(64), order.batch_records(64)) == (1, 5)
    assert np.array_equal(order.batch_rows(0, 0, 64), order.rows(0))


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_outside_of_the_epoch_is_refused(step: int) -> None:
    with pytest.raises(ConfigError, match=rf"step {step} of an epoch; expected 0 <= step < 3"):
        EpochOrder(SIZES, 1, 0).batch_rows(0, step, 6)


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

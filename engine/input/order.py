"""Which record stands where: position i of epoch e is a pure function of shard sizes, seed, setting, e and i.

Neither the number of devices, workers and threads nor the time of day has a say, so a resume token is three
numbers (seed, epoch, step). NumPy keeps the raw output of its bit generators between versions, but not the
streams of `Generator.permutation`; so the order is a stable sort of raw Philox output.

A position holds a record or a repeat of one: oversampled records stand in an epoch more than once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from records.errors import ConfigError


class Token(NamedTuple):
    """Where a stream of training batches goes on.

    Attributes:
        seed: of the order.
        epoch: of the next batch, counted from 0.
        step: of the next batch within its epoch, 0 <= step <= steps in an epoch.
    """

    seed: int
    epoch: int
    step: int


class Positions(NamedTuple):
    """What stands at P successive positions.

    Attributes:
        rows: (P,) int64, rows of the split's index.
        repeats: (P,) int64, 0 for the record itself, 1 for its first repeat, and so on.
    """

    rows: np.ndarray
    repeats: np.ndarray


@dataclass(frozen=True)
class Part:
    """One of several equal parts of each global batch, for one of as many readers: replicas, processes.

    Attributes:
        index: of the part, counted from 0.
        count: of parts.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"part {self.index} of {self.count}; expected 0 <= part < parts")

    def slice(self, batch_records: int) -> slice:
        """Return where the part lies within a batch.

        Raises:
            ConfigError: the batch doesn't divide.
        """
        if batch_records % self.count:
            raise ConfigError(
                f"a batch of {batch_records} records for {self.count} replicas; expected equal parts: "
                f"make train.global_batch, and the training split, a multiple of {self.count}"
            )
        share = batch_records // self.count
        return slice(self.index * share, (self.index + 1) * share)


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """The order of a split's records in every epoch.

    Shards are permuted in each epoch, then positions are shuffled within blocks of `shuffle_block_shards`
    successive shards. A batch never spans two epochs: the positions that don't fill an epoch's last batch are
    left out of that epoch, others in each. A split smaller than one batch is one partial batch.

    Attributes:
        shard_sizes: records in each shard, in the manifest's order.
        seed: 0 <= seed < 2^64.
        shuffle_block_shards: shards that are shuffled together; 0: all, a global shuffle.
        repeats: (records,) of integers, how often each record stands in an epoch beyond the first time; a
            repeat stays in the block of its shard. None: never.
    """

    shard_sizes: tuple[int, ...]
    seed: int
    shuffle_block_shards: int
    repeats: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.shard_sizes or min(self.shard_sizes) < 0 or not any(self.shard_sizes):
            raise ConfigError(f"shard sizes {self.shard_sizes}; expected at least one shard with records")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed {self.seed}; expected 0 <= seed < 2^64")
        if self.shuffle_block_shards < 0:
            raise ConfigError(
                f"shuffle_block_shards {self.shuffle_block_shards}; expected a number of shards, 0 for all"
            )
        if self.repeats is not None and (len(self.repeats) != self.records or self.repeats.min() < 0):
            raise ConfigError(
                f"repeats of {len(self.repeats)} records, from {self.repeats.min()}; "
                f"expected {self.records}, at least 0"
            )

    @property
    def records(self) -> int:
        """Records in the split, each counted once."""
        return sum(self.shard_sizes)

    @functools.cached_property
    def positions_per_epoch(self) -> int:
        """Records in the split and their repeats."""
        return self.records + (0 if self.repeats is None else int(self.repeats.sum()))

    @property
    def blocks_per_epoch(self) -> int:
        """How many blocks of shards an epoch goes through."""
        return -(-len(self.shard_sizes) // self._block_shards)

    @property
    def _block_shards(self) -> int:
        return self.shuffle_block_shards or len(self.shard_sizes)

    def batch_records(self, global_batch: int) -> int:
        """Return the records of every training batch: `global_batch`, or all if an epoch has fewer."""
        if global_batch < 1:
            raise ConfigError(f"a batch of {global_batch}; expected at least 1")
        return min(global_batch, self.positions_per_epoch)

    def steps_per_epoch(self, global_batch: int) -> int:
        """Return the whole batches in an epoch; 1 if it is smaller than one."""
        return self.positions_per_epoch // self.batch_records(global_batch)

    def positions(self, epoch: int) -> Positions:
        """Return an epoch's order, read-only."""
        return _positions(self, epoch)

    def batch(self, epoch: int, step: int, global_batch: int, part: Part = Part()) -> Positions:
        """Return what stands in one batch, or in one part of it.

        Raises:
            ConfigError: the epoch has no such step, or the batch doesn't divide.
        """
        steps = self.steps_per_epoch(global_batch)
        if not 0 <= step < steps:
            raise ConfigError(f"step {step} of an epoch; expected 0 <= step < {steps}")
        size = self.batch_records(global_batch)
        within = slice(step * size, (step + 1) * size)
        own = part.slice(size)
        rows, repeats = self.positions(epoch)
        return Positions(rows[within][own], repeats[within][own])

    def blocks(self, epoch: int) -> tuple[tuple[int, ...], ...]:
        """Return the shards of each of an epoch's blocks, in the order in which they are needed."""
        shards = _shard_order(self, epoch).tolist()
        return tuple(
            tuple(shards[first : first + self._block_shards])
            for first in range(0, len(shards), self._block_shards)
        )

    def block_span(self, epoch: int, step: int, global_batch: int) -> tuple[int, int]:
        """Return the first and the last of the epoch's blocks that a batch touches, counted from 0."""
        size = self.batch_records(global_batch)
        ends = _block_ends(self, epoch)
        first, last = np.searchsorted(ends, [step * size, (step + 1) * size - 1], side="right")
        return int(first), int(last)

    def _sizes(self) -> np.ndarray:
        """(shards,) int64: positions that each shard fills."""
        sizes = np.array(self.shard_sizes, np.int64)
        if self.repeats is None:
            return sizes
        ends = np.cumsum(sizes)
        extra = np.concatenate([[0], np.cumsum(self.repeats, dtype=np.int64)])
        return sizes + extra[ends] - extra[ends - sizes]


def _generator(order: EpochOrder, epoch: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([order.seed, epoch], np.uint64))


def _shard_order(order: EpochOrder, epoch: int) -> np.ndarray:
    """(shards,) int64: the epoch's permutation of the shards."""
    return np.argsort(_generator(order, epoch).random_raw(len(order.shard_sizes)), kind="stable")


@functools.lru_cache(maxsize=4)
def _block_ends(order: EpochOrder, epoch: int) -> np.ndarray:
    """(blocks,) int64: the position behind each block."""
    sizes = order._sizes()[_shard_order(order, epoch)]
    starts = np.arange(0, len(sizes), order._block_shards)
    return np.cumsum(np.add.reduceat(sizes, starts))


# Two: where epochs meet, threads ask for the last batch of one and the first of the next in turn.
@functools.lru_cache(maxsize=2)
def _positions(order: EpochOrder, epoch: int) -> Positions:
    sizes = order._sizes()
    generator = _generator(order, epoch)
    shards = np.argsort(generator.random_raw(len(sizes)), kind="stable")
    keys = generator.random_raw(order.positions_per_epoch)
    block_of_shard = np.arange(len(sizes)) // order._block_shards
    block = np.repeat(block_of_shard, sizes[shards])
    places = _places_of(shards, sizes)[np.lexsort((keys, block))]
    if order.repeats is None:
        positions = Positions(places, np.zeros_like(places))
    else:
        times = order.repeats.astype(np.int64) + 1
        row_of_place = np.repeat(np.arange(order.records), times)
        first_of_row = np.cumsum(times) - times
        rows = row_of_place[places]
        positions = Positions(rows, places - first_of_row[rows])
    for array in positions:
        array.setflags(write=False)
    return positions


def _places_of(shards: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (positions,) int64: the places of an unshuffled epoch, shard after shard in the order given."""
    first = np.cumsum(sizes) - sizes
    parts = [np.arange(first[shard], first[shard] + sizes[shard]) for shard in shards]
    return np.concatenate(parts)

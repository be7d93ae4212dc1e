"""Which record stands where: position i of epoch e is a pure function of shard sizes, seed, setting, e and i.

Neither the number of devices, workers and threads nor the time of day has a say, so a resume token is three
numbers (seed, epoch, step). NumPy keeps the raw output of its bit generators between versions, but not the
streams of `Generator.permutation`; so the order is a stable sort of raw Philox output.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from records.errors import ConfigError


@dataclass(frozen=True)
class EpochOrder:
    """The order of a split's records in every epoch.

    Shards are permuted in each epoch, then records are shuffled within blocks of `shuffle_block_shards`
    successive shards. A batch never spans two epochs: the records that don't fill an epoch's last batch are
    left out of that epoch, others in each. A split smaller than one batch is one partial batch.

    Attributes:
        shard_sizes: records in each shard, in the manifest's order.
        seed: 0 <= seed < 2^64.
        shuffle_block_shards: shards that are shuffled together; 0: all, a global shuffle.
    """

    shard_sizes: tuple[int, ...]
    seed: int
    shuffle_block_shards: int

    def __post_init__(self) -> None:
        if not self.shard_sizes or min(self.shard_sizes) < 0 or not any(self.shard_sizes):
            raise ConfigError(f"shard sizes {self.shard_sizes}; expected at least one shard with records")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed {self.seed}; expected 0 <= seed < 2^64")
        if self.shuffle_block_shards < 0:
            raise ConfigError(
                f"shuffle_block_shards {self.shuffle_block_shards}; expected a number of shards, 0 for all"
            )

    @property
    def records(self) -> int:
        """Records in the split."""
        return sum(self.shard_sizes)

    def batch_records(self, global_batch: int) -> int:
        """Return the records of every training batch: `global_batch`, or all if the split has fewer."""
        if global_batch < 1:
            raise ConfigError(f"a batch of {global_batch}; expected at least 1")
        return min(global_batch, self.records)

    def steps_per_epoch(self, global_batch: int) -> int:
        """Return the whole batches in an epoch; 1 if the split is smaller than one."""
        return self.records // self.batch_records(global_batch)

    def rows(self, epoch: int) -> np.ndarray:
        """Return an epoch's order: (records,) int64 rows of the split's index, read-only."""
        return _rows(self, epoch)

    def batch_rows(self, epoch: int, step: int, global_batch: int) -> np.ndarray:
        """Return the rows of one batch: (batch_records,) int64.

        Raises:
            ConfigError: the epoch has no such step.
        """
        steps = self.steps_per_epoch(global_batch)
        if not 0 <= step < steps:
            raise ConfigError(f"step {step} of an epoch; expected 0 <= step < {steps}")
        return self.rows(epoch)[step * global_batch : (step + 1) * global_batch]


# Two: where epochs meet, threads ask for the last batch of one and the first of the next in turn.
@functools.lru_cache(maxsize=2)
def _rows(order: EpochOrder, epoch: int) -> np.ndarray:
    sizes = np.array(order.shard_sizes, np.int64)
    generator = np.random.Philox(key=np.array([order.seed, epoch], np.uint64))
    shards = np.argsort(generator.random_raw(len(sizes)), kind="stable")
    keys = generator.random_raw(order.records)
    block_of_shard = np.arange(len(sizes)) // (order.shuffle_block_shards or len(sizes))
    block = np.repeat(block_of_shard, sizes[shards])
    rows = _rows_of(shards, sizes)[np.lexsort((keys, block))]
    rows.setflags(write=False)
    return rows


def _rows_of(shards: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (records,) int64: the rows of the index, shard after shard in the order of `shards`."""
    first = np.cumsum(sizes) - sizes
    parts = [np.arange(first[shard], first[shard] + sizes[shard]) for shard in shards]
    return np.concatenate(parts)

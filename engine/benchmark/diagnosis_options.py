"""What of the input is to be measured, and how: checked when it is named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from engine import config as configs
from engine.benchmark.windows import ROUNDS
from engine.config import AugmentConfig
from engine.input import cache
from engine.input.shard_cache import CacheSettings
from records.errors import UsageError

LOCAL, STORE = "local", "s3"
SOURCES = (LOCAL, STORE)
# Without a config: moderate, and the op takes as long whatever the ranges.
_AUGMENT = AugmentConfig(
    rotation_degrees=10, zoom=0.1, shift=0.05, brightness=0.1, contrast=0.1, flip=False, originals=True
)
# Without a config: a global shuffle would have all shards fetched before the first batch.
_STREAMED_BLOCK_SHARDS = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is to be measured.

    Attributes:
        seconds: for each candidate, over all rounds.
        batch: images in a batch.
        images: folder of the original PNGs; None: where the conversion found them.
        source: one of `SOURCES`: local copies, warm, or from the store through an empty cache.
        step_ms: that an emulated device takes a batch; None: none is emulated.
        threads: that gather and decode; None: as training does.
        config: order, augmentation and the cache's limit are its; None: a global shuffle, or blocks of 8
            shards from a store, moderately varied.
        rounds: of all candidates in turn.
    """

    seconds: float = 10.0
    batch: int = 64
    images: str | None = None
    source: str = LOCAL
    step_ms: float | None = None
    threads: int | None = None
    config: configs.Config | None = None
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and self.batch > 0 and self.rounds > 0):
            raise UsageError(
                f"{self.seconds} seconds, batches of {self.batch}, {self.rounds} rounds; "
                "expected more than 0 of each, and an end to the seconds"
            )
        if self.source not in SOURCES:
            raise UsageError(f"--from {self.source}; expected {' or '.join(SOURCES)}")
        if self.step_ms is not None and not 0 < self.step_ms < math.inf:
            raise UsageError(f"--step-ms {self.step_ms:g}; expected more than 0 milliseconds")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}; expected at least 1")

    @property
    def seed(self) -> int:
        """Of the order."""
        return self.config.train.seed if self.config else 0

    @property
    def shuffle_block_shards(self) -> int:
        """Of the order."""
        if self.config:
            return self.config.input.shuffle_block_shards
        return _STREAMED_BLOCK_SHARDS if self.source == STORE else 0

    @property
    def oversampled_findings(self) -> tuple[str, ...]:
        """Of the order; from a store none, since finding their records would fetch every shard."""
        return self.config.input.oversampled_findings if self.config and self.source == LOCAL else ()

    @property
    def augment(self) -> AugmentConfig | None:
        """How pictures are varied; None: not at all."""
        augment = self.config.augment if self.config else _AUGMENT
        return augment if augment.is_on else None

    @property
    def cache_bytes(self) -> int:
        """Limit of the cache."""
        return self.config.input.cache_bytes if self.config else cache.DEFAULT_SIZE_BYTES

    def cache_settings(self, temporary: Path) -> CacheSettings:
        """Return the cache that local copies are in: the user's, or a temporary one."""
        folder = cache.default_folder() if self.source == LOCAL else temporary
        return CacheSettings(folder, self.cache_bytes)

"""How records become batches: section `input`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import at_least, choice
from records.errors import ConfigError
from records.labels import FINDINGS

READERS = ("index", "tfrecord", "tfio")


@dataclass(frozen=True)
class InputConfig:
    """How records become batches.

    Attributes:
        reader: `index` gathers whole batches; `tfrecord` is TensorFlow's own reader, and `tfio` the same
            with TensorFlow I/O's S3 file system below it.
        shuffle_block_shards: shards that `index` shuffles together; 0 is a true global shuffle.
        shuffle_buffer_records: that the other readers shuffle among.
        oversampled_findings: training records with any of them stand in each epoch once more.
        prefetch_batches: kept ready ahead of the step.
        prefetch_to_device: whether they wait in the memory of the GPU, where there is one.
        cache_bytes: that local copies of remote shards may take, of all processes on the machine.
    """

    reader: str
    shuffle_block_shards: int
    shuffle_buffer_records: int
    oversampled_findings: tuple[str, ...]
    prefetch_batches: int
    prefetch_to_device: bool
    cache_bytes: int

    def __post_init__(self) -> None:
        choice("input.reader", self.reader, READERS)
        at_least("input.shuffle_block_shards", self.shuffle_block_shards, 0)
        at_least("input.shuffle_buffer_records", self.shuffle_buffer_records, 1)
        at_least("input.prefetch_batches", self.prefetch_batches, 1)
        at_least("input.cache_bytes", self.cache_bytes, 1)
        for finding in self.oversampled_findings:
            choice("input.oversampled_findings", finding, FINDINGS)
        if self.oversampled_findings and self.reader != "index":
            raise ConfigError(
                f"input.oversampled_findings names {len(self.oversampled_findings)} findings, which the "
                f"reader `{self.reader}` can't repeat; expected none, or input.reader=index"
            )

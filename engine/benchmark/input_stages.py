"""The stages of the training input one by one, as streams to be measured.

Each works on the batches of the engine's own order, from the first batch of the epoch that has the round's
number, with the threads and into the memory that the whole pipeline uses, but alone: nothing hands batches on
to tf.data.

Stages:
    map and gather: raw pictures from the mapped shards into batches; of compressed ones, their stored bytes.
    decode: of compressed pictures only, from the mapped shards into batches.
    augment: the transforms drawn, and the compiled op on the device that the step runs on.
    copy to device: of batches in the host's memory to the GPU's; nothing where there is none.
    whole pipeline: what training gets, on the device that the step runs on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from engine.benchmark.diagnosis import AUGMENT, COPY, DECODE, GATHER, WHOLE
from engine.benchmark.stored_pictures import StoredPictures
from engine.benchmark.windows import Images, Start, in_threads
from engine.config import AugmentConfig
from engine.input import pipeline, transforms
from engine.input.order import EpochOrder, Token
from engine.input.reader import ShardReader
from engine.model.augment import Augment

_PREFETCH = 2
# Batches that stages behind the gather work on in turn, so that none finds its own in the processor's cache.
_BATCHES_AT_HAND = 8


@dataclass(frozen=True)
class Source:
    """Where the stages' batches come from.

    Attributes:
        reader: of the training split.
        order: of its records.
        batch: images in a batch.
        threads: that gather and decode.
        gpu: the device that the step runs on, such as `/gpu:0`; empty: the CPU.
        augment: how pictures are varied; None: not at all.
    """

    reader: ShardReader
    order: EpochOrder
    batch: int
    threads: int
    gpu: str
    augment: AugmentConfig | None

    def first_number(self, epoch: int) -> int:
        """Return the number of an epoch's first batch, counted from the first epoch's first."""
        return epoch * self.order.steps_per_epoch(self.batch)

    def rows(self, number: int) -> np.ndarray:
        """Return the rows of the batch of this number."""
        epoch, step = divmod(number, self.order.steps_per_epoch(self.batch))
        return self.order.batch(epoch, step, self.batch).rows


def stages(source: Source) -> tuple[dict[str, Start], dict[str, str]]:
    """Return what starts each stage by name, and of the others why there is nothing to measure."""
    gathers = _gather(source, source.reader.gather)
    starts: dict[str, Start] = {}
    missing = {}
    if source.reader.manifest.image["encoding"] == "raw":
        starts[GATHER] = gathers
        missing[DECODE] = "the pictures are stored raw"
    else:
        starts[GATHER] = _stored_bytes(source)
        starts[DECODE] = gathers
    if source.augment:
        starts[AUGMENT] = _augment(source, source.augment)
    else:
        missing[AUGMENT] = "the config turns it off"
    if source.gpu:
        starts[COPY] = _copy(source)
    else:
        missing[COPY] = "no GPU, so batches are where the step runs"
    starts[WHOLE] = lambda epoch: images_of(whole(source, epoch))
    return starts, missing


def whole(source: Source, epoch: int = 0) -> tf.data.Dataset:
    """Return the endless stream of batches as training gets it, from an epoch's start on."""
    start = Token(source.order.seed, epoch, 0)
    batches = pipeline.training_batches(
        source.reader,
        source.order,
        source.batch,
        start=start,
        augment=source.augment,
        prefetch=_PREFETCH,
        threads=source.threads,
    )
    return pipeline.to_device(batches, source.gpu, _PREFETCH) if source.gpu else batches


def images_of(batches: tf.data.Dataset) -> Images:
    """Iterate over batches and yield how many labels, so images, each has."""
    for _, labels in batches:
        yield float(labels.shape[0])


def _gather(source: Source, gather: Callable[[np.ndarray, np.ndarray], object]) -> Start:
    buffers = source.reader.buffers(source.order.batch_records(source.batch))

    def work(number: int) -> float:
        rows = source.rows(number)
        gather(rows, buffers.take(len(rows)))
        return float(len(rows))

    return lambda epoch: in_threads(work, source.first_number(epoch), source.threads)


def _stored_bytes(source: Source) -> Start:
    """Copy the compressed pictures of a batch behind one another, as a read of them would."""
    stored = StoredPictures(source.reader.manifest, source.reader.split)

    def work(number: int) -> float:
        rows = source.rows(number)
        stored.copy(rows)
        return float(len(rows))

    return lambda epoch: in_threads(work, source.first_number(epoch), source.threads)


def _augment(source: Source, config: AugmentConfig) -> Start:
    # As training does: XLA where a GPU is.
    compiled = tf.function(Augment(), jit_compile=bool(source.gpu))

    def start(epoch: int) -> Images:
        at_hand = [_on_device(images, source.gpu) for images in _at_hand(source, epoch)]
        for step in itertools.cycle(range(source.order.steps_per_epoch(source.batch))):
            rows, repeats = source.order.batch(epoch, step, source.batch)
            drawn = transforms.draw(config, source.order.seed, epoch, rows, repeats)
            compiled(at_hand[step % len(at_hand)], _on_device(tf.constant(drawn), source.gpu))
            _wait_for_device()
            yield float(len(rows))

    return start


def _copy(source: Source) -> Start:
    def start(epoch: int) -> Images:
        for images in itertools.cycle(_at_hand(source, epoch)):
            _on_device(images, source.gpu)
            _wait_for_device()
            yield float(images.shape[0])

    return start


def _at_hand(source: Source, epoch: int) -> list[tf.Tensor]:
    """Gather some of an epoch's first batches into the host's memory."""
    first = source.first_number(epoch)
    batches = min(_BATCHES_AT_HAND, source.order.steps_per_epoch(source.batch))
    with tf.device("/cpu:0"):
        return [tf.constant(source.reader.gather(source.rows(first + step))[0]) for step in range(batches)]


def _on_device(values: tf.Tensor, gpu: str) -> tf.Tensor:
    with tf.device(gpu or "/cpu:0"):
        return tf.identity(values)


def _wait_for_device() -> None:
    # What runs on a GPU is only begun when the call returns.
    tf.test.experimental.sync_devices()

"""The hand-over to tf.data: training batches in the epoch's order, and evaluation batches.

The batches of training and evaluation are gathered by `reader` inside the data set's own threads and given to
TensorFlow without a copy, in memory of the reader's pools (`buffers`).

B = records in the batch, S = stored side in pixels, C = stored channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from engine.config import AugmentConfig
from engine.input import python_calls, transforms
from engine.input import threads as input_threads
from engine.input.buffers import Buffers
from engine.input.order import EpochOrder, Part, Token
from engine.input.reader import ShardReader
from engine.input.streamed_passes import StreamedPasses
from records.errors import RunError
from records.labels import FINDINGS

Arrays = tuple[np.ndarray, ...]

# None of the functions below branches on tensors; to rewrite them as if would cost the first batch 0.1 s.
_as_it_is = tf.autograph.experimental.do_not_convert


def training_batches(
    reader: ShardReader,
    order: EpochOrder,
    global_batch: int,
    *,
    start: Token | None = None,
    epochs: int | None = None,
    part: Part = Part(),  # noqa: B008 - a frozen value
    augment: AugmentConfig | None = None,
    prefetch: int = 2,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Return the stream of training batches from a resume token on.

    Which records make which batch, and how each is to be varied, follows from `order` and `augment` alone,
    whatever the threads. Where the data set is remote, the shards of the coming blocks are fetched meanwhile.

    Args:
        reader: of the training split; must stay open while the stream is read.
        order: of the same split.
        global_batch: records a step, over all devices.
        start: the resume token; None: the first batch of epoch 0.
        epochs: the stream ends behind so many, counted from epoch 0; None: it is endless.
        part: of each global batch that this stream gives, B records.
        augment: how pictures are varied by `model.augment`; None: no transforms are given.
        prefetch: batches to have ready.
        threads: that gather; None: one for raw pictures, one a CPU for compressed ones.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32; with `augment`, in place of the images
        a dict of images and transforms: (B, 8) float32.

    Raises:
        RunError: the token or the order isn't of this split and batch.
        ConfigError: the batch doesn't divide into the parts, or a block doesn't fit into the cache.
    """
    steps = order.steps_per_epoch(global_batch)
    first = _first_batch(start or Token(order.seed, 0, 0), reader, order, global_batch)
    own = part.slice(order.batch_records(global_batch))
    end = None if epochs is None else epochs * steps
    passes = StreamedPasses(reader, order, global_batch, first, end) if reader.is_remote else None

    def gather(number: int, buffers: Buffers, pass_number: int = 0) -> Arrays:
        epoch, step = divmod(number, steps)
        rows, repeats = order.batch(epoch, step, global_batch, part)
        with passes.batch(pass_number, number) if passes else contextlib.nullcontext():
            images, labels = reader.gather(rows, buffers.take(len(rows)))
        if augment is None:
            return images, labels
        return images, transforms.draw(augment, order.seed, epoch, rows, repeats), labels

    records = own.stop - own.start
    specs = _specs(reader, records, (transforms.NUMBERS,) if augment else ())
    numbers = tf.data.Dataset.counter(first) if end is None else tf.data.Dataset.range(first, end)
    if passes:
        numbers = _with_pass(numbers, passes.begin)
    batches = _gathered(reader, numbers, gather, records, specs, threads)
    if augment:
        batches = batches.map(_as_inputs)
    return batches.prefetch(prefetch)


def evaluation_batches(
    reader: ShardReader, batch: int, *, prefetch: int = 2, threads: int | None = None
) -> tf.data.Dataset:
    """Return each record of a split once, in the index's order; the last batch may be smaller.

    Where the data set is remote, the shards to come are fetched meanwhile, as far as the cache has room.

    Args:
        reader: of the split; must stay open while the batches are read.
        batch: records in a batch.
        prefetch: batches to have ready.
        threads: as in `training_batches`.

    Returns:
        images: (B, S, S, C) uint8, and labels: (B, 14) float32; as many as `cardinality` says.
    """

    def gather(number: int, buffers: Buffers) -> Arrays:
        if number == 0:
            reader.fetch_ahead(np.arange(len(reader)))
        rows = np.arange(number * batch, min((number + 1) * batch, len(reader)))
        return reader.gather(rows, buffers.take(len(rows)))

    numbers = tf.data.Dataset.range(-(-len(reader) // batch))
    specs = _specs(reader, None if len(reader) % batch else batch, ())
    return _gathered(reader, numbers, gather, min(batch, len(reader)), specs, threads).prefetch(prefetch)


def padded_evaluation_batches(
    reader: ShardReader,
    global_batch: int,
    part: Part = Part(),  # noqa: B008 - a frozen value
    *,
    prefetch: int = 2,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Return one part of each global batch of an evaluation, all parts equal in number and size.

    Over all parts each record has weight 1 once; what fills the last batch up has weight 0.

    Args:
        reader: of the split; must stay open while the batches are read.
        global_batch: records in a batch over all parts.
        part: of each global batch that this stream gives, B records.
        prefetch: batches to have ready.
        threads: as in `training_batches`.

    Returns:
        images: (B, S, S, C) uint8, labels: (B, 14) float32 and weights: (B,) float32, 0 or 1.

    Raises:
        ConfigError: the batch doesn't divide into the parts.
    """
    own = part.slice(global_batch)
    records, count = own.stop - own.start, -(-len(reader) // global_batch)

    def rows_of(numbers: np.ndarray) -> np.ndarray:
        return (numbers[:, None] * global_batch + np.arange(own.start, own.stop)).ravel()

    def gather(number: int, buffers: Buffers) -> Arrays:
        # The split's last record fills up: it is there, and its shard is at hand.
        last = len(reader) - 1
        if number == 0:
            reader.fetch_ahead(np.minimum(rows_of(np.arange(count)), last))
        rows = rows_of(np.array([number]))
        images, labels = reader.gather(np.minimum(rows, last), buffers.take(len(rows)))
        return images, labels, (rows < len(reader)).astype(np.float32)

    numbers = tf.data.Dataset.range(count)
    specs = (*_specs(reader, records, ()), tf.TensorSpec((records,), tf.float32))
    return _gathered(reader, numbers, gather, records, specs, threads).prefetch(prefetch)


def to_device(batches: tf.data.Dataset, device: str, prefetch: int) -> tf.data.Dataset:
    """Return the batches with `prefetch` of them waiting in a device's memory, such as `/gpu:0`."""
    return batches.apply(tf.data.experimental.copy_to_device(device)).prefetch(prefetch)


@contextlib.contextmanager
def faults_raised(reader: ShardReader) -> Iterator[None]:
    """Raise the reader's own error where tf.data, iterated inside the block, fails because of it."""
    try:
        yield
    except tf.errors.OpError:
        if reader.fault is None:
            raise
        raise reader.fault from None


def _first_batch(token: Token, reader: ShardReader, order: EpochOrder, global_batch: int) -> int:
    """Check order and token; return the token's batch, counted through all epochs."""
    if order.shard_sizes != reader.shard_sizes:
        raise RunError(f"an order of shards of {order.shard_sizes}; the split has {reader.shard_sizes}")
    steps = order.steps_per_epoch(global_batch)
    if token.seed != order.seed or token.epoch < 0 or not 0 <= token.step <= steps:
        raise RunError(
            f"resume at epoch {token.epoch}, step {token.step} of seed {token.seed}; an epoch has {steps} "
            f"steps of {global_batch}, the seed is {order.seed}: "
            "resume with the data set, the batch and the seed that the run began with"
        )
    return token.epoch * steps + token.step


def _specs(reader: ShardReader, records: int | None, between: tuple[int, ...]) -> tuple[tf.TensorSpec, ...]:
    """Describe images, (records, n) float32 for each n of `between`, and labels."""
    return (
        tf.TensorSpec((records, *reader.image_shape), tf.uint8),
        *(tf.TensorSpec((records, numbers), tf.float32) for numbers in between),
        tf.TensorSpec((records, len(FINDINGS)), tf.float32),
    )


def _with_pass(numbers: tf.data.Dataset, begin: Callable[[], np.ndarray]) -> tf.data.Dataset:
    """Put what `begin` returns, called anew whenever an iteration starts, behind each number."""

    @_as_it_is
    def one_pass(_: tf.Tensor) -> tf.data.Dataset:
        pass_number = tf.ensure_shape(tf.numpy_function(begin, [], tf.int64), ())
        return numbers.map(_as_it_is(lambda number: (number, pass_number)))

    return tf.data.Dataset.from_tensors(0).flat_map(one_pass)


@_as_it_is
def _as_inputs(
    images: tf.Tensor, drawn: tf.Tensor, labels: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    return {"images": images, "transforms": drawn}, labels


def _gathered(
    reader: ShardReader,
    numbers: tf.data.Dataset,
    gather: Callable[..., Arrays],
    most: int,
    specs: tuple[tf.TensorSpec, ...],
    threads: int | None,
) -> tf.data.Dataset:
    """Turn numbers into batches of at most `most` records, as `specs` describe them.

    `gather` takes a batch's number, the memory for it, and whatever else `numbers` give.
    """
    # TensorFlow keeps the function below, and all that it names, for the life of the process: the memory is
    # the reader's, shared by its data sets and freed when it closes.
    buffers = reader.buffers(most)
    count = threads or input_threads.gather_threads(reader.manifest)
    python_calls.close_at_end(reader)

    def call(number: np.ndarray, *others: np.ndarray) -> Arrays:
        with python_calls.counted():
            return gather(int(number), buffers, *others)

    @_as_it_is
    def load(*numbers: tf.Tensor) -> tuple[tf.Tensor, ...]:
        arrays = tf.numpy_function(call, numbers, [spec.dtype for spec in specs])
        return tuple(tf.ensure_shape(array, spec.shape) for array, spec in zip(arrays, specs, strict=True))

    # A single one is the thread that prefetches, so that no batch goes through a third one's hands.
    batches = (
        numbers.map(load, num_parallel_calls=count, deterministic=True) if count > 1 else numbers.map(load)
    )
    return batches.with_options(input_threads.options(count, deterministic=True))

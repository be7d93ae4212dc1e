"""How fast batches arrive, beside the usual ways to read the same images, in one run of one process.

Protocol. The candidates are measured in turn, round after round (a, b, c, d, a, b, c, d, ...), so that what
else the machine does falls on all alike. `seconds` is each candidate's measured time over all rounds. In each
round a candidate begins anew and warms up unmeasured: at least `WARM_UP_BATCHES` batches and a quarter of its
window, which fills its buffers and lets TensorFlow's tuner settle. Then whole batches are counted until the
window is over. The rate is images by wall clock; CPU-seconds are user and system time of all threads of the
process (`time.process_time`). Both are medians over the rounds; the spread is the lowest and highest rate.
Every candidate shuffles, and hands over eager tensors on the host. A data set that fits into the page cache
is read from there. Nothing is trained: a slow candidate costs a training only what its steps don't hide.

Candidates:
    engine: the training input, globally shuffled, uint8.
    TFRecordDataset, tuned: TensorFlow's reader with the settings of `pipeline.tfrecord_batches`, uint8.
    TFRecordDataset, usual: one record parsed at a time, AUTOTUNE everywhere, uint8.
    PNG loop: the originals decoded and resized in the loop, 3-channel float32 (`png_loop`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from rich import box
from rich.console import Console
from rich.table import Table

from engine.input import cache, pipeline, png_loop
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records import storage
from records.errors import ManifestError, StorageError, UsageError
from records.labels import FINDINGS
from records.manifest import Manifest, load

ENGINE, TUNED, USUAL, PNG_LOOP = "engine", "TFRecordDataset, tuned", "TFRecordDataset, usual", "PNG loop"
ROUNDS = 3
WARM_UP_BATCHES = 4
SPLIT = "train"
# What the other readers shuffle among; a true shuffle of theirs would hold the whole split in memory.
SHUFFLE_RECORDS = 1024
CONVERSION_NAME = "conversion.json"


@dataclass(frozen=True)
class Rate:
    """What one candidate reached; the numbers are None where it couldn't be measured, for the reason given.

    Attributes:
        name: of the candidate.
        images_per_s: median over the rounds.
        lowest_images_per_s: of the rounds.
        highest_images_per_s: of the rounds.
        cpu_s_per_1000: CPU-seconds per 1,000 images, median over the rounds.
        images: measured in all.
        not_measured: why not; empty if it was.
    """

    name: str
    images_per_s: float | None = None
    lowest_images_per_s: float | None = None
    highest_images_per_s: float | None = None
    cpu_s_per_1000: float | None = None
    images: int = 0
    not_measured: str = ""


@dataclass(frozen=True)
class InputRates:
    """One run of the benchmark.

    Attributes:
        data: the manifest's location.
        batch: images in a batch.
        image_shape: rows, columns, stored channels.
        encoding: of the stored pictures.
        rounds: of all candidates in turn.
        seconds: measured for each candidate.
        rates: one for each candidate.
    """

    data: str
    batch: int
    image_shape: tuple[int, int, int]
    encoding: str
    rounds: int
    seconds: float
    rates: tuple[Rate, ...]

    def to_json(self) -> str:
        """Serialize with the attributes' names as keys."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def run(data: str, seconds: float, images: str | None, batch: int, as_json: bool) -> int:
    """Measure and print; return the exit code 0.

    Args:
        data: a manifest or its folder.
        seconds: measured for each candidate.
        images: folder of the original PNGs; None: where the conversion found them.
        batch: images in a batch.
        as_json: print JSON in place of the table.

    Raises:
        CxrError: the data set can't be used.
    """
    print(f"measuring each input for {seconds:g} s in {ROUNDS} rounds ...", file=sys.stderr, flush=True)
    rates = measure(load(data), seconds=seconds, images=images, batch=batch)
    if as_json:
        print(rates.to_json())
    else:
        Console().print(to_table(rates))
    return 0


def measure(
    manifest: Manifest, *, seconds: float, images: str | None = None, batch: int = 64, rounds: int = ROUNDS
) -> InputRates:
    """Measure all candidates as the module's protocol says.

    Args:
        manifest: of the data set; its training split is read.
        seconds: measured for each candidate, over all rounds.
        images: folder of the original PNGs; None: where the conversion found them.
        batch: images in a batch.
        rounds: of all candidates in turn.

    Raises:
        UsageError: `seconds`, `batch` or `rounds` isn't positive, or `seconds` isn't finite.
        ManifestError: the training split is empty.
        ShardError: a shard is missing or damaged.
    """
    if not (0 < seconds < math.inf and batch > 0 and rounds > 0):
        raise UsageError(
            f"{seconds} seconds, batches of {batch}, {rounds} rounds; "
            "expected more than 0 of each, and an end to the seconds"
        )
    if not manifest.splits[SPLIT].images:
        raise ManifestError(f"{manifest.location}: the split `{SPLIT}` is empty; expected images to read")
    with ShardReader(manifest, SPLIT) as reader:
        candidates, missing = _candidates(reader, batch, images)
        windows: dict[str, list[_Window]] = {name: [] for name in candidates}
        with pipeline.faults_raised(reader):
            for _ in range(rounds):
                for name, start in candidates.items():
                    windows[name].append(_measure_window(start(), seconds / rounds))
    return InputRates(
        data=manifest.location,
        batch=batch,
        image_shape=reader.image_shape,
        encoding=manifest.image["encoding"],
        rounds=rounds,
        seconds=seconds,
        rates=(*(_rate(name, measured) for name, measured in windows.items()), *missing),
    )


def to_table(rates: InputRates) -> Table:
    """Return the printable table; the last column compares each candidate with the PNG loop."""
    side, _, channels = rates.image_shape
    reasons = [f"{rate.name}: not measured: {rate.not_measured}" for rate in rates.rates if rate.not_measured]
    measured = f"medians of {rates.rounds} interleaved rounds, {rates.seconds:g} s in all for each input"
    table = Table(
        title=f"{rates.data}: {side} x {side} x {channels} {rates.encoding}, batches of {rates.batch}",
        caption="\n".join([measured, *reasons]),
        box=box.SIMPLE_HEAD,
    )
    table.add_column("input", no_wrap=True)
    for heading in ("images/s", "spread", "CPU-s\nper 1,000", "times the\nPNG loop"):
        table.add_column(heading, justify="right", no_wrap=True)
    loop = next((rate.images_per_s for rate in rates.rates if rate.name == PNG_LOOP), None)
    for rate in rates.rates:
        table.add_row(rate.name, *_cells(rate, loop))
    return table


def find_pngs(manifest: Manifest, images: str | None) -> list[str]:
    """Return the paths of the original PNGs.

    Args:
        manifest: of the data set; a file beside it says where the conversion found its images.
        images: folder of PNGs that is read instead.

    Returns:
        Sorted paths, at least one.

    Raises:
        StorageError: there are none that a loop over files could read; the line says why.
    """
    sources = [images] if images else _conversion_sources(manifest)
    pngs = [path for source in sources for path in _pngs_below(source)]
    if not pngs:
        raise StorageError(
            f"no PNG files in {', '.join(sources) or 'no source'}; name their folder with --images"
        )
    return sorted(pngs)


@dataclass(frozen=True)
class _Window:
    images: int
    wall_s: float
    cpu_s: float


_Start = Callable[[], Iterator[tuple[tf.Tensor, tf.Tensor]]]


def _candidates(
    reader: ShardReader, batch: int, images: str | None
) -> tuple[dict[str, _Start], tuple[Rate, ...]]:
    """Return what starts each candidate's endless stream, and the rates of those that can't start."""
    manifest = reader.manifest
    order = EpochOrder(reader.shard_sizes, seed=0, shuffle_block_shards=0)
    candidates: dict[str, _Start] = {
        ENGINE: lambda: iter(pipeline.training_batches(reader, order, batch)),
        TUNED: lambda: iter(_tuned(manifest, batch)),
        USUAL: lambda: iter(_as_usual(manifest, batch)),
    }
    try:
        pngs = find_pngs(manifest, images)
    except StorageError as error:
        return candidates, (Rate(PNG_LOOP, not_measured=str(error)),)
    # The loop's cost doesn't depend on the labels, and the table that has them needn't be at hand.
    labels = np.zeros((len(pngs), len(FINDINGS)), np.float32)
    candidates[PNG_LOOP] = lambda: iter(png_loop.png_batches(pngs, labels, reader.image_shape[0], batch))
    return candidates, ()


def _tuned(manifest: Manifest, batch: int) -> tf.data.Dataset:
    # Checks the shards before the window begins, and in the first round only.
    return pipeline.tfrecord_batches(
        manifest, SPLIT, batch, shuffle_buffer=SHUFFLE_RECORDS, deterministic=False, repeat=True
    )


def _as_usual(manifest: Manifest, batch: int) -> tf.data.Dataset:
    paths = [str(cache.local_path(manifest, shard)) for shard in manifest.splits[SPLIT].shards]
    parse = pipeline.record_parser(manifest)

    def parse_one(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = parse(serialized[None])
        return images[0], labels[0]

    records = tf.data.TFRecordDataset(paths).shuffle(SHUFFLE_RECORDS).repeat()
    return records.map(parse_one, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).prefetch(tf.data.AUTOTUNE)


def _measure_window(batches: Iterator[tuple[tf.Tensor, tf.Tensor]], seconds: float) -> _Window:
    start, warm_up = time.perf_counter(), 0
    while warm_up < WARM_UP_BATCHES or time.perf_counter() - start < seconds / 4:
        next(batches)
        warm_up += 1
    images, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while not images or time.perf_counter() - start < seconds:
        images += int(next(batches)[0].shape[0])
    return _Window(images, time.perf_counter() - start, time.process_time() - cpu_start)


def _rate(name: str, windows: list[_Window]) -> Rate:
    rates = [window.images / window.wall_s for window in windows]
    return Rate(
        name=name,
        images_per_s=statistics.median(rates),
        lowest_images_per_s=min(rates),
        highest_images_per_s=max(rates),
        cpu_s_per_1000=statistics.median(1000 * window.cpu_s / window.images for window in windows),
        images=sum(window.images for window in windows),
    )


def _cells(rate: Rate, loop_images_per_s: float | None) -> tuple[str, ...]:
    if rate.images_per_s is None:
        return ("not measured",)
    return (
        f"{rate.images_per_s:,.0f}",
        f"{rate.lowest_images_per_s:,.0f}–{rate.highest_images_per_s:,.0f}",
        f"{rate.cpu_s_per_1000:.3f}",
        f"{rate.images_per_s / loop_images_per_s:.1f}" if loop_images_per_s else "–",
    )


def _conversion_sources(manifest: Manifest) -> list[str]:
    location = storage.join(manifest.folder, CONVERSION_NAME)
    try:
        sources = json.loads(storage.read_bytes(location))["images"]
    except StorageError as error:
        raise StorageError(f"{error}; name the folder of the PNGs with --images") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{location}: doesn't say where the images were; name it with --images") from error
    return [str(source) for source in sources]


def _pngs_below(source: str) -> list[str]:
    """List the PNGs of a folder, at any depth."""
    if storage.is_s3(source):
        raise StorageError(f"{source}: the PNG loop reads local files only; name their folder with --images")
    return [file.location for file in storage.list_files(source) if file.location.lower().endswith(".png")]

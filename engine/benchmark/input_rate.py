"""The training input beside the usual ways to read the same images.

Every candidate shuffles, and hands over eager tensors on the host. A data set that fits into the page cache
is read from there. Nothing is trained: a slow candidate costs a training only what its steps don't hide.

Candidates:
    engine: the training input, in the order given, uint8.
    TFRecordDataset, tuned: TensorFlow's reader with the settings of `tfrecord_reader`, uint8.
    TFRecordDataset, usual: one record parsed at a time, AUTOTUNE everywhere, uint8.
    PNG loop: the originals decoded and resized in the loop, 3-channel float32 (`png_loop`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from engine.benchmark.input_stages import Source, images_of
from engine.benchmark.windows import Start
from engine.input import pipeline, png_loop, tfrecord_reader
from engine.input.order import Token
from records import storage
from records.errors import StorageError
from records.labels import FINDINGS
from records.manifest import Manifest

ENGINE, TUNED, USUAL, PNG_LOOP = "engine", "TFRecordDataset, tuned", "TFRecordDataset, usual", "PNG loop"
SPLIT = "train"
# What the other readers shuffle among; a true shuffle of theirs would hold the whole split in memory.
SHUFFLE_RECORDS = 1024
CONVERSION_NAME = "conversion.json"


def candidates(
    source: Source, manifest: Manifest, images: str | None
) -> tuple[dict[str, Start], dict[str, str]]:
    """Return what starts each candidate by name, and of the others the reasons why they can't start.

    Args:
        source: of the engine's batches, of local shards.
        manifest: of the data set that was converted from the PNGs, which the source may be a view of.
        images: folder of the original PNGs; None: where the conversion found them.
    """
    local, batch = source.reader.manifest, source.batch
    starts = {
        ENGINE: lambda epoch: images_of(_engine(source, epoch)),
        TUNED: _every_round(lambda: _tuned(local, batch)),
        USUAL: _every_round(lambda: _as_usual(local, batch)),
    }
    try:
        pngs = find_pngs(manifest, images)
    except StorageError as error:
        return starts, {PNG_LOOP: str(error)}
    # The loop's cost doesn't depend on the labels, and the table that has them needn't be at hand.
    labels = np.zeros((len(pngs), len(FINDINGS)), np.float32)
    side_px = source.reader.image_shape[0]
    starts[PNG_LOOP] = _every_round(lambda: png_loop.png_batches(pngs, labels, side_px, batch))
    return starts, {}


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


def _every_round(make: Callable[[], tf.data.Dataset]) -> Start:
    return lambda _: images_of(make())


def _engine(source: Source, epoch: int) -> tf.data.Dataset:
    return pipeline.training_batches(
        source.reader,
        source.order,
        source.batch,
        start=Token(source.order.seed, epoch, 0),
        threads=source.threads,
    )


def _tuned(manifest: Manifest, batch: int) -> tf.data.Dataset:
    # Checks the shards before the window begins, and in the first round only.
    return tfrecord_reader.tfrecord_batches(
        manifest, SPLIT, batch, shuffle_buffer=SHUFFLE_RECORDS, deterministic=False, repeat=True
    )


def _as_usual(manifest: Manifest, batch: int) -> tf.data.Dataset:
    paths = tfrecord_reader.local_paths(manifest, SPLIT)
    parse = tfrecord_reader.record_parser(manifest)

    def parse_one(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = parse(serialized[None])
        return images[0], labels[0]

    records = tf.data.TFRecordDataset(paths).shuffle(SHUFFLE_RECORDS).repeat()
    return records.map(parse_one, num_parallel_calls=tf.data.AUTOTUNE).batch(batch).prefetch(tf.data.AUTOTUNE)


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
    if storage.is_remote(source):
        raise StorageError(f"{source}: the PNG loop reads local files only; name their folder with --images")
    return [file.location for file in storage.list_files(source) if file.location.lower().endswith(".png")]

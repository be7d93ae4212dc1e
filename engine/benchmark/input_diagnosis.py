"""Where the training input's time goes on this machine, and what bounds it; the command's work.

Protocol. With `step_ms`, an emulated device goes first (`emulated_step`), with a reader of its own, so that
its first epoch maps and checks every shard. Then the disk is read, before the stages' reader maps the shards.
Then the stages, memory, and the training input beside the usual ways to read the same images (`input_rate`)
are measured in interleaved rounds of one process as `windows` says; round r begins at epoch r, so that all
stages work on the same batches and each round on others. `seconds` is each candidate's measured time.

Of a remote data set's shards the first 2 GiB are fetched before, to measure on local copies (`local_view`).
From a store, the device, network, fetch and the whole pipeline are of the remote data set itself, through
caches that are empty at first (`remote_stages`).

What is not in it: the model. On a machine without a GPU, augmentation runs on the cores that also gather.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from rich.console import Console

from engine import config as configs
from engine.benchmark import (
    diagnosis_chart,
    diagnosis_table,
    input_rate,
    input_stages,
    machine,
    remote_stages,
    windows,
)
from engine.benchmark.ceilings import (
    DISK,
    MEMORY,
    NETWORK,
    Ceiling,
    disk_reads,
    drop_from_memory,
    memory_copies,
)
from engine.benchmark.diagnosis import FETCH, STAGES, STEP, Diagnosis, Setting, assess, judge
from engine.benchmark.diagnosis_options import LOCAL, STORE, Options
from engine.benchmark.emulated_step import LOCAL_GOAL, REMOTE_GOAL, Utilisation, emulate
from engine.benchmark.input_rate import SPLIT
from engine.benchmark.input_stages import Source
from engine.benchmark.local_view import local_view
from engine.benchmark.remote_stages import TEMPORARY_PREFIX
from engine.benchmark.stored_pictures import StoredPictures
from engine.benchmark.windows import Rate
from engine.input import oversampling, pipeline, threads
from engine.input.fetch import IN_FLIGHT
from engine.input.order import EpochOrder
from engine.input.reader import ShardReader
from records import storage
from records.errors import ManifestError, UsageError
from records.machine import usable_cores
from records.manifest import Manifest, load


def run(
    data: str,
    *,
    seconds: float = 10.0,
    images: str | None = None,
    batch: int = 64,
    source: str = LOCAL,
    step_ms: float | None = None,
    threads: int | None = None,
    config: str | None = None,
    png: str | None = None,
    as_json: bool = False,
) -> int:
    """Measure and print; return the exit code 0.

    Args:
        data: a manifest or its folder.
        seconds: measured for each candidate.
        images: folder of the original PNGs; None: where the conversion found them.
        batch: images in a batch.
        source: `local` or `s3`, as in `Options`.
        step_ms: that an emulated device takes a batch.
        threads: that gather and decode.
        config: path of a config, for order, augmentation and the cache's limit.
        png: write a chart to this file.
        as_json: print JSON in place of the tables.

    Raises:
        CxrError: the data set can't be used, or not as asked.
    """
    options = Options(
        seconds=seconds,
        batch=batch,
        images=images,
        source=source,
        step_ms=step_ms,
        threads=threads,
        config=configs.load(config) if config else None,
    )
    found = measure(load(data), options)
    if as_json:
        print(found.to_json())
    else:
        Console().print(*diagnosis_table.to_tables(found), sep="\n")
    # Last: what was measured is shown even where the file can't be written.
    if png:
        diagnosis_chart.write(png, found)
    return 0


def measure(manifest: Manifest, options: Options) -> Diagnosis:
    """Measure all as the module's protocol says.

    Raises:
        UsageError: a local data set is to be measured from a store.
        ManifestError: the training split is empty.
        ShardError: a shard is missing or damaged.
        StorageError: the store can't be reached, or copies of shards can't be kept.
    """
    if not manifest.splits[SPLIT].images:
        raise ManifestError(f"{manifest.location}: the split `{SPLIT}` is empty; expected images to read")
    if options.source == STORE and not storage.is_remote(manifest.location):
        raise UsageError(
            f"{manifest.location}: --from s3 needs a data set in a store; name it as s3:// or gs://"
        )
    utilisation = _emulate(manifest, options) if options.step_ms else None
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        return _measure(manifest, _view(manifest, options, Path(folder)), options, utilisation)


def _measure(
    manifest: Manifest, view: Manifest, options: Options, utilisation: Utilisation | None
) -> Diagnosis:
    disk = _measure_disk(view, options)
    _say(f"measuring stages and usual ways for {options.seconds:g} s each in {options.rounds} rounds ...")
    with ShardReader(view, SPLIT) as reader, pipeline.faults_raised(reader):
        source = _source(reader, options)
        setting = _setting(manifest, source, options)
        starts, missing = input_stages.stages(source)
        if options.source == STORE:
            starts |= remote_stages.stages(manifest, source, options.cache_bytes)
        else:
            missing |= dict.fromkeys((FETCH, NETWORK), "--from local measures local copies")
        usual, not_usual = input_rate.candidates(source, manifest, options.images)
        cores = setting.usable_cores
        starts[MEMORY] = lambda _: memory_copies(setting.batch, setting.image_bytes, cores)
        rates = windows.measure({**starts, **usual}, options.seconds, options.rounds)
    rates |= {name: Rate(name=name, not_measured=why) for name, why in (missing | not_usual).items()}
    rates[STEP] = _step(options.step_ms, setting.batch)
    ceilings = (
        _ceiling(rates[MEMORY], setting.image_bytes, f"batches copied by {cores} threads"),
        disk,
        _ceiling(rates[NETWORK], _stored_bytes(manifest), f"{IN_FLIGHT} ranged GETs at once, into memory"),
    )
    stages = assess({name: rates[name] for name in STAGES}, ceilings, setting, options.step_ms)
    return Diagnosis(
        setting=setting,
        stages=stages,
        ceilings=ceilings,
        verdict=judge(stages, ceilings, setting, utilisation),
        utilisation=utilisation,
        rates=tuple(rates[name] for name in (*usual, *not_usual)),
    )


def _emulate(manifest: Manifest, options: Options) -> Utilisation:
    step_ms = options.step_ms or 0.0
    _say(f"emulating a device of {step_ms:g} ms a batch for up to {2 * options.seconds:g} s ...")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX)))
        # From a store through an empty cache; else the local copies.
        is_cold = options.source == STORE
        data = manifest if is_cold else _view(manifest, options, folder)
        reader = stack.enter_context(
            ShardReader(data, SPLIT, cache_settings=options.cache_settings(folder / "cache"))
        )
        stack.enter_context(pipeline.faults_raised(reader))
        source = _source(reader, options)
        return emulate(
            iter(input_stages.whole(source)),
            steps_per_epoch=source.order.steps_per_epoch(source.batch),
            step_ms=step_ms,
            seconds=options.seconds,
            first_goal_share=REMOTE_GOAL if is_cold else LOCAL_GOAL,
        )


def _view(manifest: Manifest, options: Options, folder: Path) -> Manifest:
    if storage.is_remote(manifest.location):
        _say("fetching local copies ...")
    return local_view(manifest, SPLIT, folder / "view", options.cache_settings(folder / "cache"))


def _measure_disk(view: Manifest, options: Options) -> Ceiling:
    _say(f"reading the shards from disk for {options.seconds:g} s ...")
    shards = view.splits[SPLIT].shards
    paths = [Path(view.locate(shard)) for shard in shards]
    if reason := drop_from_memory(paths[0]):
        return Ceiling(name=DISK, not_measured=f"the shards can't be read from it: {reason}")
    records, cores = [shard.records for shard in shards], usable_cores()
    # Each round goes on where the last one may have ended, so that the disk's own cache is of little help.
    starts = {DISK: lambda number: disk_reads(paths, records, number * len(paths) // 2, cores)}
    rate = windows.measure(starts, options.seconds, options.rounds)[DISK]
    how = f"whole shards read by {cores} threads, dropped from the page cache (posix_fadvise) before"
    return _ceiling(rate, _stored_bytes(view), how)


def _ceiling(rate: Rate, image_bytes: float, how: str) -> Ceiling:
    if rate.images_per_s is None:
        return Ceiling(**dataclasses.asdict(rate))
    return Ceiling(**dataclasses.asdict(rate), bytes_per_s=rate.images_per_s * image_bytes, how=how)


def _step(step_ms: float | None, batch: int) -> Rate:
    if not step_ms:
        return Rate(name=STEP, not_measured="no --step-ms")
    images_per_s = batch / (step_ms / 1000)
    return Rate(
        name=STEP,
        images_per_s=images_per_s,
        lowest_images_per_s=images_per_s,
        highest_images_per_s=images_per_s,
        cpu_s_per_1000=0.0,
    )


def _source(reader: ShardReader, options: Options) -> Source:
    findings = options.oversampled_findings
    repeats = oversampling.repeats(reader.labels(), findings) if findings else None
    return Source(
        reader=reader,
        order=EpochOrder(reader.shard_sizes, options.seed, options.shuffle_block_shards, repeats),
        batch=options.batch,
        threads=options.threads or threads.gather_threads(reader.manifest),
        gpu="/gpu:0" if tf.config.list_physical_devices("GPU") else "",
        augment=options.augment,
    )


def _setting(manifest: Manifest, source: Source, options: Options) -> Setting:
    return Setting(
        data=manifest.location,
        source=options.source,
        batch=source.order.batch_records(options.batch),
        image_shape=source.reader.image_shape,
        encoding=manifest.image["encoding"],
        split_bytes=sum(shard.size_bytes for shard in manifest.splits[SPLIT].shards),
        measured_bytes=sum(shard.size_bytes for shard in source.reader.manifest.splits[SPLIT].shards),
        stored_image_bytes=StoredPictures(source.reader.manifest, SPLIT).mean_bytes,
        shuffle_block_shards=source.order.shuffle_block_shards,
        threads=source.threads,
        usable_cores=usable_cores(),
        memory_bytes=machine.memory_bytes(),
        machine=machine.describe(),
        device=_device_name(),
        has_gpu=bool(source.gpu),
        rounds=options.rounds,
        seconds=options.seconds,
    )


def _stored_bytes(manifest: Manifest) -> float:
    """Return the bytes of shards that an image takes."""
    split = manifest.splits[SPLIT]
    return sum(shard.size_bytes for shard in split.shards) / split.images


def _device_name() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

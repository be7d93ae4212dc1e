"""The training loop: batches from the shards, one compiled step, whole-epoch validation, best checkpoint."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import nullcontext

import keras
import numpy as np
import tensorflow as tf

from engine import config as configs
from engine.input import cache, order, oversampling, pipeline, reader, tfio_reader, tfrecord_reader
from engine.losses import LogitLoss, build_loss
from engine.model.augment import with_augmentation
from engine.model.densenet_cbam import build_densenet121_cbam
from engine.training.callbacks import BestCheckpoint, BetweenSteps, CsvLog, FiniteLoss, ProgressLine, RunLog
from engine.training.run_directory import RunDirectory
from engine.training.validation import Validation
from records.labels import FINDINGS
from records.machine import usable_cores
from records.manifest import Manifest, Split


def fit(
    directory: RunDirectory,
    config: configs.Config,
    data_set: Manifest,
    *,
    on_start: Callable[[], None],
    check: Callable[[], None],
) -> None:
    """Train one model and leave config, history and best checkpoint in the run directory.

    Args:
        directory: of the run.
        config: all settings.
        data_set: its manifest.
        on_start: called when the model stands, before the first step.
        check: called between steps; what it raises ends the run.

    Raises:
        CxrError: the shards, the weights or the loss are at fault.
    """
    start = time.monotonic()
    keras.utils.set_random_seed(config.train.seed)
    keras.config.set_dtype_policy(config.train.precision)
    cached = cache_settings(config)
    with (
        reader.ShardReader(data_set, "train", cache_settings=cached) as training,
        reader.ShardReader(data_set, "validation", cache_settings=cached) as validation,
    ):
        prevalence = training_prevalence(data_set.splits["train"])
        # They lie in every shard, so those of a remote data set are read only where they are needed.
        labels = training.labels() if config.input.oversampled_findings else np.empty((0, len(FINDINGS)))
        records = epoch_order(config, data_set, labels)
        # Before the model: a remote data set's first block comes in while that is built.
        batches = training_batches(config, data_set, training, records)
        judged = build(config, data_set)
        model = with_augmentation(judged) if config.augment.is_on else judged
        compile_model(model, config, prevalence)
        on_start()
        directory.update(parameters=model.count_params(), device=device_name())
        steps, batch = records.steps_per_epoch(config.train.global_batch), config.train.global_batch
        progress = ProgressLine(config.train.epochs, steps, records.batch_records(batch))
        faults = tfio_reader.faults_raised(data_set) if config.input.reader == "tfio" else nullcontext()
        with faults, progress, pipeline.faults_raised(training), pipeline.faults_raised(validation):
            model.fit(
                batches,
                epochs=config.train.epochs,
                steps_per_epoch=steps,
                verbose=0,
                shuffle=False,  # the order is ours
                callbacks=[
                    FiniteLoss(functools.partial(image_ids_of_step, config, training, records)),
                    progress,
                    BetweenSteps(check),
                    *_callbacks(directory, config, judged, validation, prevalence, check),
                ],
            )
    directory.update(seconds=round(time.monotonic() - start, 1))


def cache_settings(config: configs.Config) -> cache.CacheSettings:
    """Return where copies of remote shards lie, and how much room they may take."""
    return cache.CacheSettings(cache.default_folder(), config.input.cache_bytes)


def build(config: configs.Config, data_set: Manifest) -> keras.Model:
    """Build the network that the config names, for the pictures that the data set stores."""
    own = (data_set.statistics["mean"], data_set.statistics["deviation"])
    return build_densenet121_cbam(
        stored_side_px=data_set.image["side_px"],
        stored_channels=data_set.image["stored_channels"],
        image_side_px=config.model.image_side_px,
        findings=len(FINDINGS),
        head_units=config.model.head_units,
        dropout=config.model.dropout,
        l2=config.model.l2,
        cbam_reduction=config.model.cbam_reduction,
        batch_norm_momentum=config.model.batch_norm_momentum,
        mean_and_deviation=own if config.model.normalisation == "data_set" else None,
        weights=config.model.weights,
    )


def training_prevalence(split: Split) -> np.ndarray:
    """Return the share of positives per finding, (14,) float64, of the training split.

    A finding that no record has, or each, counts as half a record, so that its weight stays finite.
    """
    positives = np.array([split.positives[finding] for finding in FINDINGS], np.float64)
    half_a_record = 0.5 / split.images
    return np.clip(positives / split.images, half_a_record, 1 - half_a_record)


def build_training_loss(loss: configs.LossConfig, prevalence: np.ndarray) -> LogitLoss:
    """Build the loss that the config names; `weighted_bce` weighs positives by the training set's N- / N+."""
    return build_loss(
        loss.name,
        smoothing=loss.smoothing,
        prevalence=loss.prevalence,
        pos_weight=((1 - prevalence) / prevalence).tolist(),
        training_prevalence=prevalence.tolist(),
    )


def compile_model(model: keras.Model, config: configs.Config, prevalence: np.ndarray) -> None:
    """Put loss and optimiser to the model; XLA where a GPU is, for it costs minutes and slows a CPU down."""
    model.compile(
        optimizer=keras.optimizers.Adam(config.train.learning_rate),
        loss=build_training_loss(config.loss, prevalence),
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )
    # Variables made while the step is traced would have it traced a second time: 29 s against 18 s to the
    # first step on two cores.
    model.optimizer.build(model.trainable_variables)


def epoch_order(config: configs.Config, data_set: Manifest, labels: np.ndarray) -> order.EpochOrder:
    """Return the order of the training records, of (N, 14) labels."""
    sizes = tuple(shard.records for shard in data_set.splits["train"].shards)
    repeats = oversampling.repeats(labels, config.input.oversampled_findings)
    return order.EpochOrder(sizes, config.train.seed, config.input.shuffle_block_shards, repeats)


def training_batches(
    config: configs.Config, data_set: Manifest, training: reader.ShardReader, records: order.EpochOrder
) -> tf.data.Dataset:
    """Return endless batches of pictures, with transforms if the config asks for any, and labels."""
    batch, prefetch = config.train.global_batch, config.input.prefetch_batches
    augment = config.augment if config.augment.is_on else None
    if config.input.reader == "index":
        batches = pipeline.training_batches(
            training, records, batch, epochs=config.train.epochs, augment=augment, prefetch=prefetch
        )
    else:
        from_s3 = config.input.reader == "tfio"
        batches = tfrecord_reader.training_batches(
            data_set,
            batch,
            seed=config.train.seed,
            shuffle_buffer=config.input.shuffle_buffer_records,
            augment=augment,
            prefetch=prefetch,
            cache_settings=cache_settings(config),
            serialized=tfio_reader.serialized_records(data_set, "train") if from_s3 else None,
        )
    if config.input.prefetch_to_device and len(tf.config.list_physical_devices("GPU")) == 1:
        return pipeline.to_device(batches, "/gpu:0", prefetch)
    return batches


def image_ids_of_step(
    config: configs.Config, training: reader.ShardReader, records: order.EpochOrder, epoch: int, step: int
) -> list[str]:
    """Name the records of a step, both counted from 0; none where TensorFlow's reader chose them."""
    if config.input.reader != "index":
        return []
    rows = records.batch(epoch, step, config.train.global_batch).rows
    return [record.image_id for record in training.records(rows)]


def device_name() -> str:
    """Name what the step runs on."""
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return f"CPU, {usable_cores()} cores"
    details = tf.config.experimental.get_device_details(devices[0])
    return f"{len(devices)} x {details.get('device_name', 'GPU')}"


def _callbacks(
    directory: RunDirectory,
    config: configs.Config,
    judged: keras.Model,
    validation: reader.ShardReader,
    prevalence: np.ndarray,
    check: Callable[[], None],
) -> list[keras.callbacks.Callback]:
    train = config.train
    mode = "min" if train.monitor == "val_loss" else "max"
    # The order matters: validation adds its numbers to the log that those behind it read.
    return [
        Validation(
            judged,
            validation,
            build_training_loss(config.loss, prevalence).for_validation(prevalence.tolist()),
            batch=train.global_batch,
            check=check,
        ),
        BestCheckpoint(directory, judged, train.monitor, mode),
        RunLog(directory),
        CsvLog(directory.history_path),
        keras.callbacks.ReduceLROnPlateau(
            monitor=train.monitor,
            mode=mode,
            factor=train.plateau_factor,
            patience=train.plateau_patience,
            min_delta=1e-4,
            min_lr=train.min_learning_rate,
        ),
        keras.callbacks.EarlyStopping(
            monitor=train.monitor, mode=mode, patience=train.early_stopping_patience, min_delta=1e-5
        ),
    ]

"""Puts a run together from a config and a data set, and trains it: input, model, step, callbacks, loop."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from engine import config as configs
from engine import losses
from engine.config.schedule import PlateauConfig
from engine.input import order, pipeline
from engine.input.reader import ShardReader
from engine.model.augment import with_augmentation
from engine.model.build import build_model
from engine.training import checkpoints, devices, inputs, schedules, snapshot
from engine.training.averages import averaged_weights
from engine.training.callbacks import BestModel, FiniteLoss, RunLog
from engine.training.cluster import this_worker
from engine.training.logs import CsvLog, FindingsLog, StepLog, TensorBoardLog
from engine.training.loop import Length, Loop
from engine.training.optimizers import build_optimizer
from engine.training.progress import ProgressLine, say
from engine.training.run_directory import EVENTS_NAME, RunDirectory
from engine.training.step import TrainingStep
from engine.training.validation import Validation
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest, Split


@dataclass
class Run:
    """The parts of a run that its own parts are made of.

    Attributes:
        directory: of the run.
        config: all settings.
        data_set: its manifest.
        check: called between steps; what it raises ends the run.
        training: reader of the training split.
        validation: reader of the validation split.
        records: the order of the training split.
    """

    directory: RunDirectory
    config: configs.Config
    data_set: Manifest
    check: Callable[[], None]
    training: ShardReader
    validation: ShardReader
    records: order.EpochOrder


def fit(
    directory: RunDirectory,
    config: configs.Config,
    data_set: Manifest,
    *,
    on_start: Callable[[], None],
    check: Callable[[], None],
    resume_from: Path | None = None,
    after_checkpoint: Callable[[Path], None] | None = None,
) -> None:
    """Train one model and leave config, history, checkpoints and best model in the run directory.

    Args:
        directory: of the run.
        config: all settings.
        data_set: its manifest.
        on_start: called when the model stands, before the first step.
        check: called between steps; what it raises ends the run.
        resume_from: folder of checkpoints, from whose newest whole one to go on; None, or none there: from
            the beginning.
        after_checkpoint: called with each new one, in the thread that writes them.

    Raises:
        CxrError: the shards, the weights, the loss or the checkpoints are at fault.
    """
    start_s = time.monotonic()
    keras.config.set_dtype_policy(config.train.precision)
    strategy = devices.strategy_of(
        config.train.replicas, precision=config.train.precision, deterministic=config.train.deterministic
    )
    checkpoint = checkpoints.newest(resume_from) if resume_from else None
    with strategy.scope(), devices.losses_told(), _opened(directory, config, data_set, check) as run:
        inputs.check_shares(config, run.records, strategy.num_replicas_in_sync)
        if this_worker().workers > 1:
            _check_agreement(checkpoint, strategy)
        place = checkpoint.state["place"] if checkpoint else {"epoch": 0, "step": 0}
        token = order.Token(config.train.seed, place["epoch"], place["step"])
        progress = ProgressLine(*_length(run), start_s)
        with _timed(directory, start_s), _written(run, after_checkpoint) as written:
            loop = _loop(run, strategy, progress, written)
            if checkpoint:
                loop.restore(checkpoint)
                say(f"{checkpoint.path}: going on at epoch {place['epoch'] + 1}, step {place['step'] + 1}")
            # Behind the model, see `build`.
            batches = inputs.training_batches(config, data_set, run.training, run.records, token)
            on_start()
            with progress, inputs.faults_raised(config, data_set):
                loop.run(inputs.on_devices(batches, config, strategy))


@contextmanager
def _timed(directory: RunDirectory, start_s: float) -> Iterator[None]:
    """Add the time since the start to that of the run, however the block ends."""
    try:
        yield
    finally:
        seconds = directory.read().get("seconds", 0) + time.monotonic() - start_s
        directory.update(seconds=round(seconds, 1))


@contextmanager
def _opened(
    directory: RunDirectory, config: configs.Config, data_set: Manifest, check: Callable[[], None]
) -> Iterator[Run]:
    cached = inputs.cache_settings(config)
    with (
        ShardReader(data_set, "train", cache_settings=cached) as training,
        ShardReader(data_set, "validation", cache_settings=cached) as validation,
        pipeline.faults_raised(training),
        pipeline.faults_raised(validation),
    ):
        records = inputs.epoch_order(config, data_set, training)
        yield Run(directory, config, data_set, check, training, validation, records)


def _check_agreement(checkpoint: checkpoints.Checkpoint | None, strategy: tf.distribute.Strategy) -> None:
    place = checkpoint.state["place"] if checkpoint else {"epoch": 0, "step": 0}
    # Below 2^16, so that its square, too, is exact in the float64 that the workers exchange.
    if not devices.agreed((place["epoch"] * 99_991 + place["step"]) % 2**16, strategy):
        raise RunError(
            f"workers go on from different places, here {checkpoint.path if checkpoint else 'the start'}; "
            "give all of them one --run-dir on a shared disk, or one checkpoint.location"
        )


@contextmanager
def _written(run: Run, after: Callable[[Path], None] | None) -> Iterator[checkpoints.Checkpoints | None]:
    """The run's checkpoints, which stand at the end of the block; None: another's task."""
    if this_worker().number:
        yield None
        return
    keep_last = run.config.checkpoint.keep_last
    with checkpoints.Checkpoints(run.directory.checkpoints_path, keep_last, after) as written:
        yield written


def _loop(
    run: Run,
    strategy: tf.distribute.Strategy,
    progress: ProgressLine,
    written: checkpoints.Checkpoints | None,
) -> Loop:
    config, length = run.config, _length(run)
    judged = build(config, run.data_set)
    model = with_augmentation(judged) if config.augment.is_on else judged
    loss = build_training_loss(config.loss, run.data_set.splits["train"])
    optimizer = build_optimizer(config.optimizer, config.train.precision)
    step = TrainingStep(
        model,
        loss,
        optimizer,
        records=length.records,
        micro_batches=config.train.micro_batches,
        compiled=devices.is_compiled(config.train.compilation, strategy),
    )
    run.directory.update(parameters=model.count_params(), device=devices.device_name(strategy))
    averaged = functools.partial(averaged_weights, model, optimizer)
    return Loop(
        step,
        optimizer,
        snapshot.variables(model, optimizer, loss.variables),
        [progress, *_callbacks(run, judged, loss, averaged, length)],
        length,
        rate=schedules.rate_of_step(
            config.schedule,
            config.optimizer.learning_rate,
            steps_per_epoch=length.steps,
            epochs=length.epochs,
        ),
        checkpoints=written,
        every_steps=config.checkpoint.every_steps,
        check=run.check,
        together=this_worker().workers > 1,
    )


def _length(run: Run) -> Length:
    batch = run.config.train.global_batch
    return Length(
        run.config.train.epochs, run.records.steps_per_epoch(batch), run.records.batch_records(batch)
    )


def build(config: configs.Config, data_set: Manifest) -> keras.Model:
    """Build the network that the config names, for the pictures that the data set stores.

    Keras draws the seeds of initial weights and dropout from Python's own generator, which libraries draw
    pauses from, too, while they read in other threads. So it is seeded here, and no reader may be at work.
    """
    keras.utils.set_random_seed(config.train.seed)
    return build_model(
        config.model,
        stored_side_px=data_set.image["side_px"],
        stored_channels=data_set.image["stored_channels"],
        mean_and_deviation=(data_set.statistics["mean"], data_set.statistics["deviation"]),
        findings=len(FINDINGS),
    )


def build_training_loss(loss: configs.LossConfig, split: Split) -> losses.LogitLoss:
    """Build the loss that the config names, for the training split's counts."""
    return losses.build_loss(loss, _positives(split), split.images)


def _positives(split: Split) -> list[int]:
    return [split.positives[finding] for finding in FINDINGS]


def _callbacks(
    run: Run,
    judged: keras.Model,
    loss: losses.LogitLoss,
    averaged: Callable[[], AbstractContextManager[None]],
    length: Length,
) -> list[keras.callbacks.Callback]:
    directory, train, counted = run.directory, run.config.train, run.data_set.splits["train"]
    prevalence = losses.training_prevalence(_positives(counted), counted.images)
    monitored = {"monitor": train.monitor, "mode": train.monitor_mode}
    # The order matters: validation adds its numbers to the log that those behind it read.
    return [
        StepLog(directory.steps_path),
        FiniteLoss(functools.partial(inputs.image_ids_of_step, run.config, run.training, run.records)),
        Validation(
            judged,
            run.validation,
            loss.for_validation(prevalence.tolist()),
            batch=length.records,
            threshold=train.threshold,
            # The others would wait for a worker that leaves here: it does so behind the next step.
            check=run.check if this_worker().workers == 1 else lambda: None,
            averaged=averaged,
        ),
        BestModel(
            directory, judged, **monitored, averaged=averaged, copies=run.config.checkpoint.best_copies
        ),
        RunLog(directory),
        CsvLog(directory.history_path),
        FindingsLog(directory.findings_path),
        TensorBoardLog(directory.path / EVENTS_NAME, length.steps),
        *_plateau(run.config, monitored),
        keras.callbacks.EarlyStopping(
            **monitored, patience=train.early_stopping_patience, min_delta=train.early_stopping_min_delta
        ),
    ]


def _plateau(config: configs.Config, monitored: dict[str, str]) -> list[keras.callbacks.Callback]:
    if not isinstance(config.schedule, PlateauConfig):
        return []
    return [
        keras.callbacks.ReduceLROnPlateau(
            **monitored,
            factor=config.schedule.factor,
            patience=config.schedule.patience,
            min_delta=config.schedule.min_delta,
            min_lr=config.schedule.min_learning_rate,
        )
    ]

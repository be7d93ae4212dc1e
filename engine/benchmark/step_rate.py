"""How fast training steps are, where their time goes, and what the input takes of it; the command's work.

Protocol. Every variant (precision, compilation, batch) is built and runs its first step, which is timed: it
traces and compiles. Then all parts of all variants take turns, round after round, every second round
backwards, so that what else the machine does falls on all alike: whole steps on one random batch that lies on
the device, whole steps on the data set's own batches, forward alone, forward and backward. In each turn the
batches that lay ready are thrown away, one step runs unmeasured, then `steps` steps as the training loop runs
them. Figures are medians over the rounds, with the lowest and highest.

What is not in it: callbacks, validation and checkpoints. It is of one device; weights are never loaded.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console

from engine import config as configs
from engine.benchmark import machine, step_chart, step_table
from engine.benchmark.step_figures import StepRates
from engine.benchmark.step_input import StepInput
from engine.benchmark.step_options import Options, of_words
from engine.benchmark.step_variant import MeasuredVariant
from engine.model.weights import NO_WEIGHTS
from engine.training import devices
from records.errors import UsageError
from records.manifest import Manifest, load


def run(
    config: str,
    overrides: Sequence[str] = (),
    *,
    data: str | None = None,
    precisions: str = "",
    compilations: str = "",
    batches: str = "",
    steps: int = 5,
    breakdown: bool = True,
    png: str | None = None,
    as_json: bool = False,
) -> int:
    """Measure and print; return the exit code 0.

    Args:
        config: path of the YAML file.
        overrides: `section.key=value` each.
        data: a manifest or its folder, for real input beside synthetic batches; None: synthetic ones alone.
        precisions: such as `float32,mixed_bfloat16`; empty: the config's.
        compilations: such as `never,always`; empty: the config's.
        batches: such as `16,32`; empty: the config's.
        steps: measured of each part in each round.
        breakdown: whether forward and backward are measured apart; they are compiled apart, too.
        png: write a chart to this file.
        as_json: print JSON in place of the tables.

    Raises:
        CxrError: the config or the data set can't be used, or not as asked.
    """
    settings = configs.load(config, overrides)
    options = of_words(
        settings.train,
        precisions=precisions,
        compilations=compilations,
        batches=batches,
        steps=steps,
        breakdown=breakdown,
    )
    devices.strategy_of(1)
    found = measure(settings, load(data) if data else None, options)
    if as_json:
        print(found.to_json())
    else:
        Console().print(*step_table.to_tables(found), sep="\n")
    # Last: what was measured is shown even where the file can't be written.
    if png:
        step_chart.write(png, found)
    return 0


def measure(config: configs.Config, data_set: Manifest | None, options: Options) -> StepRates:
    """Measure all as the module's protocol says.

    Raises:
        UsageError: Keras runs on another back end than TensorFlow.
        CxrError: the data set can't be read, or doesn't fit the config.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"KERAS_BACKEND is {keras.backend.backend()}; the training step runs on tensorflow alone"
        )
    start_s = _process_age_s()
    # The time of a step doesn't depend on them.
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights=NO_WEIGHTS))
    with StepInput(config, data_set) as source:
        measured = _measured(config, source, options)
        return StepRates(
            model=config.model.name,
            parameters=max(variant.parameters for variant in measured),
            image_shape=source.pictures.shape,
            image_side_px=config.model.image_side_px,
            data=data_set.location if data_set else "",
            augmented=config.augment.is_on,
            machine=machine.describe(),
            device=devices.device_name(tf.distribute.get_strategy()),
            has_gpu=bool(tf.config.list_physical_devices("GPU")),
            steps=options.steps,
            rounds=options.rounds,
            start_s=start_s,
            variants=tuple(variant.rates() for variant in measured),
        )


def _measured(config: configs.Config, source: StepInput, options: Options) -> list[MeasuredVariant]:
    measured: list[MeasuredVariant] = []
    for number, variant in enumerate(options.variants, start=1):
        _say(f"building variant {number} of {len(options.variants)}, and running its first step ...")
        measured.append(MeasuredVariant(variant, config, source, options))
    for number in range(options.rounds):
        _say(f"measuring, round {number + 1} of {options.rounds} ...")
        turns = [(one, part) for one in measured for part in one.parts]
        for one, part in turns if number % 2 == 0 else turns[::-1]:
            one.take_turn(part)
    return measured


def _process_age_s() -> float | None:
    """Return how long this process has run; None where the system doesn't say."""
    try:
        # Behind the name in brackets, which may hold spaces; see proc(5), field 22.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

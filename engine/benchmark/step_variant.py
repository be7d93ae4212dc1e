"""One variant of the training step while it is measured: built, run once, then timed turn by turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from engine.benchmark import step_memory
from engine.benchmark.step_figures import REAL, StepWindow, VariantRates, summed_up
from engine.benchmark.step_input import StepInput
from engine.benchmark.step_options import Options, Variant
from engine.benchmark.step_parts import Batches, Part, StepParts, window
from engine.config import Config

OUT_OF_MEMORY = "out of memory"


class MeasuredVariant:
    """A variant with its windows so far; when memory runs out it is let go of, and says so.

    Attributes:
        parameters: of the network; 0 if it couldn't be built.
    """

    def __init__(self, variant: Variant, config: Config, source: StepInput, options: Options) -> None:
        self._variant, self._source, self._steps = variant, source, options.steps
        # A data set may be smaller than a batch.
        self._records = source.batch_records(variant.batch)
        self._timed: dict[str, tuple[Part, Batches]] = {}
        self._windows: dict[str, list[StepWindow]] = {}
        self._known: dict[str, Any] = {"is_compiled": variant.compilation == "always"}
        self._peak_bytes: int | None = None
        self._not_measured, self.parameters = "", 0
        held = step_memory.held_bytes()
        with self._until_out_of_memory():
            self._build(config, options)
        self._own_bytes = (step_memory.held_bytes() or 0) - (held or 0)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what takes turns; none once memory ran out."""
        return tuple(self._timed)

    def take_turn(self, part: str) -> None:
        """Measure one part for one round."""
        if part not in self._timed:
            return
        begin, batches = self._timed[part]
        with self._until_out_of_memory():
            if part == REAL:
                self._source.throw_away_ready(batches)
            held = step_memory.held_bytes()
            step_memory.forget_peak()
            measured = window(begin, batches, self._steps, self._records)
            self._windows.setdefault(part, []).append(measured)
            self._note_peak(held)

    def rates(self) -> VariantRates:
        """Sum up all turns."""
        names: dict[str, Any] = {"precision": self._variant.precision, "batch": self._records, **self._known}
        if self._not_measured:
            return VariantRates(**names, not_measured=self._not_measured)
        return VariantRates(**names, **summed_up(self._windows), peak_bytes=self._peak_bytes)

    def _build(self, config: Config, options: Options) -> None:
        step = StepParts(self._variant._replace(batch=self._records), config, self._source.pictures)
        synthetic = itertools.repeat(self._source.synthetic(self._records))
        self._known |= {"is_compiled": step.is_compiled, "build_s": step.build_s}
        self._known["first_step_s"] = step.run_first(synthetic)
        self.parameters = step.parameters
        for name, part in step.parts(real=self._source.has_data, breakdown=options.breakdown).items():
            batches = self._source.real(self._variant.batch) if name == REAL else synthetic
            self._timed[name] = (part, batches)

    def _note_peak(self, held: int | None) -> None:
        """Keep the most memory of any turn; of a GPU's, what other variants hold is taken off."""
        if (peak := step_memory.peak_bytes()) is None:
            return
        if step_memory.has_gpu() and held is not None:
            peak -= held - self._own_bytes
        self._peak_bytes = max(peak, self._peak_bytes or 0)

    @contextlib.contextmanager
    def _until_out_of_memory(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError:
            self._not_measured = OUT_OF_MEMORY
            self._timed.clear()

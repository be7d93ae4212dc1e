"""What was measured of the training step, and what follows from it; no TensorFlow is needed.

A step's parts are measured as forward alone, forward and backward, and the whole; backward and optimiser are
the differences, round by round. Each is a median over the rounds.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.benchmark import windows
from engine.benchmark.windows import Rate, Window

FORWARD, BACKWARD, SYNTHETIC, REAL = "forward", "forward and backward", "synthetic batches", "real input"
# Of the rate on synthetic batches, that real input is to reach.
REAL_GOAL_SHARE = 0.98


@dataclass(frozen=True, kw_only=True)
class StepWindow(Window):
    """What one part did in one round.

    Attributes:
        stall_s: of the wall time, waiting for a batch.
        steps: measured.
    """

    stall_s: float
    steps: int

    @property
    def step_ms(self) -> float:
        """Of each step, the mean."""
        return 1000 * self.wall_s / self.steps


@dataclass(frozen=True, kw_only=True)
class Milliseconds:
    """Of one step or a part of it: median, lowest and highest of the rounds."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class VariantRates:
    """One variant's figures; None: not measured.

    Attributes:
        precision: Keras's dtype policy.
        is_compiled: by XLA.
        batch: records of a step.
        not_measured: why nothing was; empty if it was.
        build_s: to build model, loss and optimiser.
        first_step_s: to trace, compile and run the first step.
        step: on synthetic batches.
        forward: of that.
        backward: of that.
        optimizer: of that.
        synthetic: rate on one random batch that lies on the device.
        real: rate on the data set's batches.
        real_share: of the synthetic rate, that the real one reaches; the median over the rounds.
        stall_share: of the wall time on real input, waiting for a batch.
        peak_bytes: the most memory while steps run: a GPU's, without what other variants hold; else this
            process's.
    """

    precision: str
    is_compiled: bool
    batch: int
    not_measured: str = ""
    build_s: float | None = None
    first_step_s: float | None = None
    step: Milliseconds | None = None
    forward: Milliseconds | None = None
    backward: Milliseconds | None = None
    optimizer: Milliseconds | None = None
    synthetic: Rate | None = None
    real: Rate | None = None
    real_share: float | None = None
    stall_share: float | None = None
    peak_bytes: int | None = None

    @property
    def name(self) -> str:
        """In a few words."""
        return f"{self.precision}{', XLA' if self.is_compiled else ''}, {self.batch}"


@dataclass(frozen=True, kw_only=True)
class StepRates:
    """One run of the benchmark.

    Attributes:
        model: name of the network.
        parameters: of it.
        image_shape: rows, columns, channels of the stored pictures.
        image_side_px: that the network reduces them to.
        data: the manifest's location; empty: synthetic batches alone.
        augmented: whether pictures are varied inside the step.
        machine: in words.
        device: that steps run on, in words.
        has_gpu: whether that is a GPU.
        steps: measured of each part in each round.
        rounds: of all.
        start_s: from the process's start until the first variant was begun, mostly imports; None: unknown.
        variants: in the order asked for.
    """

    model: str
    parameters: int
    image_shape: tuple[int, int, int]
    image_side_px: int
    data: str
    augmented: bool
    machine: str
    device: str
    has_gpu: bool
    steps: int
    rounds: int
    start_s: float | None
    variants: tuple[VariantRates, ...]

    def to_json(self) -> str:
        """Serialize with the attributes' names as keys."""
        return json.dumps({**dataclasses.asdict(self), "real_goal_share": REAL_GOAL_SHARE}, indent=1)


def summed_up(measured: Mapping[str, Sequence[StepWindow]]) -> dict[str, Any]:
    """Return a variant's figures that follow from the windows of its parts, as `VariantRates` takes them.

    Args:
        measured: windows by part, as many of each as there were rounds; of `SYNTHETIC` at least.
    """
    whole = [window.step_ms for window in measured[SYNTHETIC]]
    found: dict[str, Any] = {
        "step": _milliseconds(whole),
        "synthetic": windows.rate(SYNTHETIC, list(measured[SYNTHETIC])),
    }
    if FORWARD in measured:
        forward = [window.step_ms for window in measured[FORWARD]]
        both = [window.step_ms for window in measured[BACKWARD]]
        found["forward"] = _milliseconds(forward)
        found["backward"] = _milliseconds(_differences(both, forward))
        found["optimizer"] = _milliseconds(_differences(whole, both))
    if REAL in measured:
        real = measured[REAL]
        found["real"] = windows.rate(REAL, list(real))
        found["stall_share"] = statistics.median(window.stall_s / window.wall_s for window in real)
        found["real_share"] = statistics.median(
            synthetic_ms / window.step_ms for synthetic_ms, window in zip(whole, real, strict=True)
        )
    return found


def _differences(whole: Sequence[float], part: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(whole, part, strict=True)]


def _milliseconds(rounds: Sequence[float]) -> Milliseconds:
    return Milliseconds(median=statistics.median(rounds), lowest=min(rounds), highest=max(rounds))

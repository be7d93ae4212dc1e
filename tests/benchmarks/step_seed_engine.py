"""This engine's training step on its own input, as a run of `configs/fisher_2025.yaml` has it, timed.

    python tests/benchmarks/step_seed_engine.py MANIFEST STEPS PRECISION

Only the weights are left out, which change nothing in the time of a step. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from engine import backend
from engine import config as configs
from records import manifest

BATCH = 16
CONFIG = Path(__file__).parents[2] / "configs/fisher_2025.yaml"


def main() -> None:
    """Train for two steps and as many as are to be timed, and say how long those took."""
    data, steps, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    settings = ["model.weights=none", f"train.precision={precision}", f"train.global_batch={BATCH}"]
    config = configs.load(str(CONFIG), settings)
    backend.load()
    from engine.benchmark.step_figures import REAL
    from engine.benchmark.step_input import StepInput
    from engine.benchmark.step_options import Variant
    from engine.benchmark.step_parts import StepParts, window
    from engine.training import devices

    devices.strategy_of(1)
    with StepInput(config, manifest.load(data)) as source:
        batches = source.real(BATCH)
        step = StepParts(Variant(precision, "auto", BATCH), config, source.pictures)
        step.run_first(batches)
        first_step_at = time.time()
        source.throw_away_ready(batches)
        part = step.parts(real=True, breakdown=False)[REAL]
        found = window(part, batches, steps, BATCH)
    said = {"images": found.images, "wall_s": found.wall_s, "cpu_s": found.cpu_s}
    print(json.dumps({**said, "first_step_at": first_step_at}), flush=True)


if __name__ == "__main__":
    main()

"""Rates and settings that nobody measured, for tests of what is made of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from engine.benchmark.ceilings import DISK, MEMORY, NETWORK, Ceiling
from engine.benchmark.diagnosis import STAGES, WHOLE, Diagnosis, Setting, assess, judge
from engine.benchmark.emulated_step import Utilisation
from engine.benchmark.input_rate import ENGINE, PNG_LOOP, TUNED
from engine.benchmark.windows import Rate

SETTING = Setting(
    data="shards/manifest.json",
    source="local",
    batch=64,
    image_shape=(320, 320, 1),
    encoding="raw",
    split_bytes=8_000_000_000,
    measured_bytes=8_000_000_000,
    stored_image_bytes=102_400.0,
    shuffle_block_shards=0,
    threads=2,
    usable_cores=2,
    memory_bytes=16_000_000_000,
    machine="a processor, 2 cores used, 16 GB",
    device="CPU",
    has_gpu=False,
    rounds=3,
    seconds=10.0,
)


def rate(name: str, images_per_s: float | None) -> Rate:
    if images_per_s is None:
        return Rate(name=name, not_measured=f"no {name} here")
    return Rate(
        name=name,
        images_per_s=images_per_s,
        lowest_images_per_s=0.9 * images_per_s,
        highest_images_per_s=1.1 * images_per_s,
        cpu_s_per_1000=1000 / images_per_s,
        images=1000,
    )


def ceilings(memory: float = 100_000.0, disk: float = 9_000.0, network: float | None = None) -> tuple:
    return tuple(
        Ceiling(**dataclasses.asdict(rate(name, reached)), bytes_per_s=102_400 * (reached or 0), how="moved")
        for name, reached in ((MEMORY, memory), (DISK, disk), (NETWORK, network))
    )


def diagnosis(
    reached: dict[str, float],
    *,
    step_ms: float | None = None,
    utilisation: Utilisation | None = None,
    network: float | None = None,
    **setting: Any,
) -> Diagnosis:
    """Make a diagnosis of some stages' rates; without the whole pipeline's it is that of the slowest."""
    reached = {WHOLE: min(reached.values()), **reached}
    used = dataclasses.replace(SETTING, **setting)
    limits = ceilings(network=network)
    stages = assess({name: rate(name, reached.get(name)) for name in STAGES}, limits, used, step_ms)
    return Diagnosis(
        setting=used,
        stages=stages,
        ceilings=limits,
        verdict=judge(stages, limits, used, utilisation),
        utilisation=utilisation,
        rates=(rate(ENGINE, 60_000.0), rate(TUNED, 17_000.0), rate(PNG_LOOP, 200.0)),
    )


def utilisation(first: float, later: float | None) -> Utilisation:
    return Utilisation(
        step_ms=80.0,
        first_batch_s=0.25,
        first_epoch_steps=60,
        steps_per_epoch=60,
        first_epoch_share=first,
        first_epoch_goal_share=0.98,
        later_steps=125 if later else 0,
        later_share=later,
    )

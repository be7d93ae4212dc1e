"""What is made of measured rates: shares of stall and ceiling, and the stage that bounds."""

from __future__ import annotations

import json

import fabricated_diagnosis as fabricated
import pytest

from engine.benchmark.ceilings import DISK
from engine.benchmark.diagnosis import (
    AUGMENT,
    COPY,
    DECODE,
    FETCH,
    GATHER,
    HAND_OVER,
    STAGES,
    STEP,
    WHOLE,
    Diagnosis,
    Stage,
)


def stage(found: Diagnosis, name: str) -> Stage:
    return next(stage for stage in found.stages if stage.name == name)


def test_a_device_waits_for_what_a_stage_takes_beyond_the_step() -> None:
    # A batch of 64 takes the step 80 ms, the fetch 100 ms and the gather 1 ms.
    found = fabricated.diagnosis({FETCH: 640, GATHER: 64_000, STEP: 800}, step_ms=80)
    assert stage(found, FETCH).stall_share == pytest.approx(0.2)
    assert stage(found, GATHER).stall_share == 0
    assert stage(found, WHOLE).stall_share == pytest.approx(0.2)
    assert stage(found, STEP).stall_share is None


def test_a_device_that_takes_no_time_waits_for_each_stage_as_long_as_it_takes() -> None:
    found = fabricated.diagnosis({GATHER: 80_000, DECODE: 8_000}, encoding="jpeg")
    assert stage(found, GATHER).stall_share == pytest.approx(0.1)
    assert stage(found, DECODE).stall_share == pytest.approx(1)


def test_each_stage_stands_beside_its_ceiling() -> None:
    found = fabricated.diagnosis({FETCH: 9_000, GATHER: 80_000}, network=10_000)
    assert (stage(found, GATHER).ceiling, stage(found, GATHER).ceiling_share) == ("memory", 0.8)
    assert (stage(found, FETCH).ceiling, stage(found, FETCH).ceiling_share) == ("network", 0.9)
    assert (stage(found, WHOLE).ceiling, stage(found, WHOLE).ceiling_share) == (FETCH, 1)


def test_compressed_pictures_are_held_against_memory_by_their_stored_bytes() -> None:
    found = fabricated.diagnosis(
        {GATHER: 200_000, DECODE: 8_000}, encoding="jpeg", stored_image_bytes=25_600.0
    )
    assert stage(found, GATHER).ceiling_share == pytest.approx(0.5)


def test_a_stage_that_was_not_measured_has_no_shares() -> None:
    assert stage(fabricated.diagnosis({GATHER: 80_000}), COPY).stall_share is None


@pytest.mark.parametrize(
    ("reached", "setting", "bound", "text"),
    [
        (
            {GATHER: 200_000, DECODE: 8_900},
            {"encoding": "jpeg", "stored_image_bytes": 26_000.0},
            DECODE,
            "decode bounds: 8,900 images/s on 2 cores; convert with --encoding raw (3.9 times the bytes) or "
            "use more cores",
        ),
        (
            {GATHER: 85_000},
            {},
            GATHER,
            "map and gather bounds: 85,000 images/s on 2 cores, 0.85 of what memory gives; "
            "only faster memory would help",
        ),
        (
            {GATHER: 50_000},
            {"usable_cores": 8},
            GATHER,
            "map and gather bounds: 50,000 images/s on 8 cores, 0.50 of what memory gives; "
            "try more --threads",
        ),
        (
            {GATHER: 70_000, WHOLE: 42_000},
            {},
            HAND_OVER,
            "hand-over to TensorFlow bounds: 42,000 images/s, 0.60 of the slowest stage (map and gather), "
            "1.0 of 2 cores busy; try larger batches, more cores, or fewer other programs beside it",
        ),
        (
            {GATHER: 9_500},
            {"measured_bytes": 32_000_000_000},
            DISK,
            "disk bounds: 9,500 images/s; the training shards (32.0 GB) don't fit into memory (16.0 GB), so "
            "epochs are read from disk, which gives 9,000 images/s: add memory, or convert with "
            "--encoding jpeg",
        ),
        (
            {FETCH: 9_500, GATHER: 80_000},
            {"network": 10_000},
            FETCH,
            "fetch bounds: 9,500 images/s on 2 cores, 0.95 of what the network gives; convert with "
            "--encoding jpeg (a quarter of the bytes) or use a nearer store; later epochs come from the "
            "cache where input.cache_bytes holds them",
        ),
        (
            {FETCH: 5_000, GATHER: 80_000},
            {"network": 10_000},
            FETCH,
            "fetch bounds: 5,000 images/s on 2 cores, 0.50 of what the network gives; the network gives "
            "more: use more cores, or run fewer other programs beside it",
        ),
        (
            {GATHER: 80_000, AUGMENT: 300},
            {"has_gpu": True},
            AUGMENT,
            "augment bounds: 300 images/s on 2 cores; turn off what the config's `augment` doesn't need, or "
            "let several devices share the batch",
        ),
        (
            {GATHER: 80_000, COPY: 60_000},
            {"has_gpu": True},
            COPY,
            "copy to device bounds: 60,000 images/s on 2 cores; larger batches cost fewer copies; nothing "
            "else of this input's would help",
        ),
    ],
)
def test_the_verdict_names_the_stage_that_bounds_and_what_to_change(
    reached: dict[str, float], setting: dict, bound: str, text: str
) -> None:
    found = fabricated.diagnosis(reached, **setting)
    assert found.verdict.text == text
    assert found.verdict.bound == bound


def test_augmentation_on_a_cpu_is_a_part_of_the_step_and_bounds_no_input() -> None:
    found = fabricated.diagnosis({GATHER: 85_000, AUGMENT: 300, WHOLE: 84_000})
    assert found.verdict.bound == GATHER


def test_where_the_device_is_slower_there_is_nothing_to_change() -> None:
    found = fabricated.diagnosis({GATHER: 80_000, STEP: 800, WHOLE: 80_000}, step_ms=80)
    assert found.verdict.bound == STEP
    assert found.verdict.text == (
        "step bounds: 800 images/s; the input gives 80,000, 100.0 times as much: nothing to change"
    )


def test_the_json_holds_all_stages_and_the_setting_beside_them() -> None:
    values = json.loads(
        fabricated.diagnosis({GATHER: 80_000}, utilisation=fabricated.utilisation(0.99, 0.99)).to_json()
    )
    assert [found["name"] for found in values["stages"]] == list(STAGES)
    assert values["batch"] == 64
    assert values["image_shape"] == [320, 320, 1]
    assert values["rates"][0].keys() >= {"name", "images_per_s", "cpu_s_per_1000", "not_measured"}
    assert values["utilisation"]["first_epoch_share"] == 0.99
    assert values["verdict"]["bound"] == GATHER


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [
        (0.99, 0.99, "nothing to change"),
        (0.5, 0.99, "only the first epoch is held up"),
        (0.99, 0.5, "yet the device waits"),
    ],
)
def test_a_goal_of_the_device_that_is_missed_is_not_called_nothing_to_change(first, later, said) -> None:
    text = fabricated.diagnosis(
        {GATHER: 80_000, STEP: 800, WHOLE: 80_000},
        step_ms=80,
        utilisation=fabricated.utilisation(first, later),
    ).verdict.text
    assert said in text
    assert text.count("nothing to change") == (said == "nothing to change")

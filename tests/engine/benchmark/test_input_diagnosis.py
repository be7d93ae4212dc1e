"""The diagnosis of the input as a whole: what it measures, prints and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import pytest

from engine import config as configs
from engine.benchmark import input_diagnosis
from engine.benchmark.ceilings import DISK, MEMORY, NETWORK
from engine.benchmark.diagnosis import AUGMENT, COPY, DECODE, FETCH, GATHER, STAGES, STEP, WHOLE
from engine.benchmark.diagnosis_options import Options
from engine.benchmark.input_rate import ENGINE, PNG_LOOP, TUNED, USUAL
from records.errors import ManifestError, ShardError, UsageError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("batch", [6, 64])
def test_all_is_measured_even_if_the_data_set_is_smaller_than_a_batch(data_set, pngs, batch: int) -> None:
    found = input_diagnosis.measure(
        data_set, Options(seconds=0.1, images=str(pngs), batch=batch, step_ms=1, rounds=2)
    )
    assert [stage.name for stage in found.stages] == list(STAGES)
    reasons = {stage.name: stage.not_measured for stage in found.stages if stage.not_measured}
    assert reasons.keys() == {FETCH, DECODE, COPY}
    assert [ceiling.name for ceiling in found.ceilings] == [MEMORY, DISK, NETWORK]
    assert [rate.name for rate in found.rates] == [ENGINE, TUNED, USUAL, PNG_LOOP]
    for rate in (*found.stages, *found.ceilings, *found.rates):
        if not rate.not_measured:
            assert 0 < rate.lowest_images_per_s <= rate.images_per_s <= rate.highest_images_per_s
            assert rate.cpu_s_per_1000 >= 0
    assert found.setting.batch == min(batch, 20)
    assert found.utilisation.first_epoch_steps > 0
    assert found.verdict.text


def test_compressed_pictures_have_a_stage_more(tmp_path, write_data_set) -> None:
    data_set = write_data_set(tmp_path, encoding="jpeg")
    found = input_diagnosis.measure(data_set, Options(seconds=0.03, batch=6, rounds=1))
    measured = [stage.name for stage in found.stages if not stage.not_measured]
    assert measured == [GATHER, DECODE, AUGMENT, WHOLE]
    assert found.utilisation is None


def test_a_config_decides_on_order_and_augmentation(data_set) -> None:
    config = configs.load(
        str(ROOT / "configs/demo.yaml"),
        ["input.shuffle_block_shards=2", "input.oversampled_findings=[Hernia]"],
    )
    found = input_diagnosis.measure(data_set, Options(seconds=0.03, batch=6, rounds=1, config=config))
    assert found.setting.shuffle_block_shards == 2
    augment = next(stage for stage in found.stages if stage.name == AUGMENT)
    assert augment.not_measured == "the config turns it off"


def test_the_command_prints_tables_with_the_reasons(data_set, capsys) -> None:
    assert input_diagnosis.run(data_set.location, seconds=0.03, batch=6) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (GATHER, WHOLE, ENGINE, TUNED, USUAL, PNG_LOOP))
    assert "32 x 32 x 1 raw, batches of 6" in printed
    assert "decode: not measured: the pictures are stored raw" in printed


def test_the_command_prints_json_and_draws_a_chart(tmp_path, data_set, pngs, capsys) -> None:
    chart = tmp_path / "chart.png"
    assert (
        input_diagnosis.run(
            data_set.folder,
            seconds=0.03,
            images=str(pngs),
            batch=6,
            step_ms=1,
            threads=1,
            config=str(ROOT / "configs/baseline.yaml"),
            png=str(chart),
            as_json=True,
        )
        == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert [rate["name"] for rate in printed["rates"]] == [ENGINE, TUNED, USUAL, PNG_LOOP]
    assert printed["image_shape"] == [32, 32, 1]
    assert printed["threads"] == 1
    assert {stage["name"] for stage in printed["stages"] if stage["not_measured"]} == {FETCH, DECODE, COPY}
    assert printed["utilisation"]["step_ms"] == 1
    assert next(stage for stage in printed["stages"] if stage["name"] == STEP)["images_per_s"] == 6000
    assert cv2.imread(str(chart)) is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seconds": 0}, "0 seconds, batches of 64, 3 rounds; expected more than 0 of each"),
        ({"seconds": math.inf}, "inf seconds, .* an end to the seconds"),
        ({"seconds": math.nan}, "nan seconds, .* an end to the seconds"),
        ({"batch": 0}, "batches of 0"),
        ({"source": "tape"}, "--from tape; expected local or s3"),
        ({"step_ms": 0.0}, "--step-ms 0; expected more than 0 milliseconds"),
        ({"step_ms": math.nan}, "--step-ms nan; expected more than 0 milliseconds"),
        ({"threads": 0}, "--threads 0; expected at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Options(**wrong)


def test_a_local_data_set_is_not_measured_from_a_store(data_set) -> None:
    with pytest.raises(UsageError, match=r"manifest\.json: --from s3 needs a data set in a store"):
        input_diagnosis.measure(data_set, Options(source="s3"))


def test_an_empty_training_split_is_refused(tmp_path, write_data_set) -> None:
    empty = write_data_set(tmp_path / "empty", sizes={"train": (), "validation": (), "test": (2,)})
    with pytest.raises(ManifestError, match="the split `train` is empty"):
        input_diagnosis.measure(empty, Options())


@pytest.mark.parametrize("step_ms", [None, 1.0])
def test_a_damaged_shard_is_the_benchmarks_error(data_set, step_ms: float | None) -> None:
    path = Path(data_set.locate(data_set.splits["train"].shards[0]))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ShardError, match=r"train-00000-of-00003\.tfrecord: CRC32C"):
        input_diagnosis.measure(data_set, Options(seconds=0.03, batch=6, rounds=1, step_ms=step_ms))

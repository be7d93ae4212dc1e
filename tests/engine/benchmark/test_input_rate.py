"""The benchmark of the input: what it reports, with and without the original PNGs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.benchmark import input_rate
from engine.benchmark.input_rate import ENGINE, PNG_LOOP, TUNED, USUAL
from records.errors import CxrError, ManifestError, ShardError, UsageError

ALL = [ENGINE, TUNED, USUAL, PNG_LOOP]


@pytest.fixture
def pngs(tmp_path: Path) -> Path:
    folder = tmp_path / "originals" / "images_001"
    folder.mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number:08d}_000.png"), np.full((64, 64), number, np.uint8))
    return folder.parent


@pytest.mark.parametrize("batch", [6, 64])
def test_every_input_is_measured_even_if_the_data_set_is_smaller_than_a_batch(
    data_set, pngs, batch: int
) -> None:
    result = input_rate.measure(data_set, seconds=0.1, images=str(pngs), batch=batch, rounds=2)
    assert [rate.name for rate in result.rates] == ALL
    for rate in result.rates:
        assert not rate.not_measured
        assert 0 < rate.lowest_images_per_s <= rate.images_per_s <= rate.highest_images_per_s
        assert rate.cpu_s_per_1000 >= 0
        assert rate.images > 0


def test_compressed_data_sets_are_measured_too(tmp_path, write_data_set) -> None:
    data_set = write_data_set(tmp_path, encoding="jpeg")
    result = input_rate.measure(data_set, seconds=0.03, batch=6, rounds=1)
    assert [rate.name for rate in result.rates if rate.images_per_s] == ALL[:3]


def test_the_originals_are_found_where_the_conversion_found_them(data_set, pngs) -> None:
    (Path(data_set.folder) / "conversion.json").write_text(json.dumps({"images": [str(pngs)]}))
    found = input_rate.find_pngs(data_set, None)
    assert [Path(path).name for path in found] == [f"{number:08d}_000.png" for number in range(3)]


@pytest.mark.parametrize(
    ("conversion", "reason"),
    [
        (None, r"conversion\.json: can't be read: .*--images"),
        ("[]", r"conversion\.json: doesn't say where the images were; name it with --images"),
        ('{"images": []}', "no PNG files in no source"),
        ('{"images": ["/no/such/folder"]}', "/no/such/folder: no such folder"),
        ('{"images": ["s3://bucket/images"]}', "s3://bucket/images: the PNG loop reads local files only"),
    ],
)
def test_a_loop_without_originals_is_reported_with_the_reason(
    data_set, conversion: str | None, reason: str
) -> None:
    if conversion is not None:
        (Path(data_set.folder) / "conversion.json").write_text(conversion)
    with pytest.raises(CxrError, match=reason) as error:
        input_rate.find_pngs(data_set, None)
    result = input_rate.measure(data_set, seconds=0.03, batch=6, rounds=1)
    assert result.rates[-1] == input_rate.Rate(PNG_LOOP, not_measured=str(error.value))


def test_the_command_prints_a_table_with_the_reason_below(data_set, capsys) -> None:
    assert input_rate.run(data_set.location, 0.03, None, 6, as_json=False) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ALL)
    assert "not measured: " in printed
    assert "32 x 32 x 1 raw, batches of 6" in printed


def test_the_command_prints_json(data_set, pngs, capsys) -> None:
    assert input_rate.run(data_set.folder, 0.03, str(pngs), 6, as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [rate["name"] for rate in printed["rates"]] == ALL
    assert printed["image_shape"] == [32, 32, 1]


def test_the_table_compares_with_the_loop() -> None:
    rates = (
        input_rate.Rate(ENGINE, 300.0, 200.0, 400.0, 0.5, 10),
        input_rate.Rate(PNG_LOOP, 2.0, 1.0, 3.0, 7.0, 10),
    )
    table = input_rate.to_table(input_rate.InputRates("here", 6, (32, 32, 1), "raw", 3, 1.0, rates))
    assert list(table.columns[4].cells) == ["150.0", "1.0"]
    assert next(iter(table.columns[2].cells)) == "200–400"


def test_a_run_that_cannot_be_measured_is_refused(tmp_path, data_set, write_data_set) -> None:
    with pytest.raises(UsageError, match="0 seconds, batches of 6, 3 rounds; expected more than 0 of each"):
        input_rate.measure(data_set, seconds=0, batch=6)
    for endless in (math.inf, math.nan):
        with pytest.raises(UsageError, match=f"{endless} seconds, .* an end to the seconds"):
            input_rate.measure(data_set, seconds=endless, batch=6)
    empty = write_data_set(tmp_path / "empty", sizes={"train": (), "validation": (), "test": (2,)})
    with pytest.raises(ManifestError, match="the split `train` is empty"):
        input_rate.measure(empty, seconds=1)


def test_a_damaged_shard_is_the_benchmarks_error(data_set) -> None:
    path = Path(data_set.locate(data_set.splits["train"].shards[0]))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ShardError, match=r"train-00000-of-00003\.tfrecord: CRC32C"):
        input_rate.measure(data_set, seconds=0.03, batch=6, rounds=1)

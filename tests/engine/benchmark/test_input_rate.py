"""The training input beside the usual ways: what is compared, with and without the original PNGs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from engine.benchmark import input_rate
from engine.benchmark.input_rate import ENGINE, PNG_LOOP, TUNED, USUAL
from records.errors import CxrError


def test_every_way_gives_batches_without_end(source, pngs) -> None:
    starts, missing = input_rate.candidates(source, source.reader.manifest, str(pngs))
    assert list(starts) == [ENGINE, TUNED, USUAL, PNG_LOOP]
    assert not missing
    for start in starts.values():
        with contextlib.closing(start(0)) as batches:
            # The data set has 20 training records and 3 originals.
            assert sum(next(batches) for _ in range(20)) >= 60


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
def test_a_loop_without_originals_is_left_out_for_the_reason(
    data_set, source, conversion: str | None, reason: str
) -> None:
    if conversion is not None:
        (Path(data_set.folder) / "conversion.json").write_text(conversion)
    with pytest.raises(CxrError, match=reason) as error:
        input_rate.find_pngs(data_set, None)
    starts, missing = input_rate.candidates(source, data_set, None)
    assert PNG_LOOP not in starts
    assert missing == {PNG_LOOP: str(error.value)}

from __future__ import annotations

import csv
import re
from pathlib import Path

import bad_pictures
import pytest
import sound
import table_of_cases
from cases import Case, Ground

from beam_pipelines import convert

CASES = table_of_cases.CASES
_PICTURES = list(bad_pictures.PNGS.values())
_IMAGES = len(sound.image_ids())


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the sound inputs; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    sound.write_data_set(folder)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.what}" for case in CASES])
def test_a_malformed_input_gives_one_line_and_its_code_and_changes_nothing(
    case: Case, tmp_path: Path, lasting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = case.spoil(Ground(tmp_path, lasting))
    before = tree(tmp_path)
    capsys.readouterr()
    code = attempt()
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert re.match("error: (?:" + case.line + ")", lines[0]), lines[0]
    assert code == case.code
    assert tree(tmp_path) == before


@pytest.mark.parametrize("pictures", [_PICTURES[:_IMAGES], _PICTURES[_IMAGES:]], ids=["first", "others"])
def test_a_conversion_quarantines_each_malformed_png_with_its_reason(
    tmp_path: Path, pictures: list[tuple[bytes, str]]
) -> None:
    source = sound.write_source(tmp_path / "source")
    reasons = {}
    for image_id, (data, reason) in zip(sound.image_ids(), pictures, strict=False):
        (source / "images" / image_id).write_bytes(data)
        reasons[image_id] = reason
    assert convert.main(sound.conversion(source, tmp_path / "out")) == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
    with (tmp_path / "out" / "quarantine.csv").open() as file:
        found = {row[0]: row[1] for row in list(csv.reader(file))[1:]}
    assert found.keys() == reasons.keys()
    assert all(re.match(reasons[image_id], said) for image_id, said in found.items())


def test_the_table_in_the_docs_is_that_of_the_cases() -> None:
    assert table_of_cases.PATH.read_text(encoding="utf-8") == table_of_cases.markdown()


def test_there_are_at_least_sixty_kinds_and_none_twice() -> None:
    assert len({(case.kind, case.what) for case in CASES}) == len(CASES) >= 60

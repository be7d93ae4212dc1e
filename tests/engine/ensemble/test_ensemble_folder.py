"""The folder of an ensemble: put in place whole, kept from others, made again where it was damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ensemble_making import DRAWS, make_ensemble, refused

from engine.ensemble import ensemble
from engine.evaluation import lock
from engine.evaluation.predictor import open_run
from engine.training.run_directory import RunDirectory
from records import storage
from records.errors import ConfigError, RunError, StorageError


def test_another_ensemble_is_replaced_only_if_asked_to_and_its_test_reads_are_kept(
    runs: list[str], output: Path
) -> None:
    make_ensemble(runs, output)
    reads = output / "evaluation" / "test_reads.json"
    reads.parent.mkdir()
    reads.write_text("[]")
    with pytest.raises(RunError, match=r"holds another ensemble .*other rule.*--overwrite"):
        ensemble.run(runs, str(output), rule="logits", draws=DRAWS)
    assert make_ensemble(runs, output, rule="logits", overwrite=True)["rule"] == "logits"
    assert reads.read_text() == "[]"
    assert sorted(p.name for p in output.parent.iterdir()) == ["data", "ensemble", "runs"]


def test_nothing_is_left_where_it_fails(runs: list[str], output: Path) -> None:
    (Path(runs[1]) / "best.keras").write_bytes(b"damaged")
    with pytest.raises(RunError, match="can't be loaded as a model"):
        ensemble.run(runs, str(output), draws=DRAWS)
    assert not output.exists()
    assert sorted(p.name for p in output.parent.iterdir()) == ["data", "runs"]


def test_an_ensemble_whose_replacement_was_killed_half_way_comes_back(
    runs: list[str], output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ensemble(runs, output)
    output.rename(output.with_name(".ensemble.replaced"))
    make_ensemble(runs, output)
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ensemble.json", "members/small/best.keras"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"{}"), Path.unlink])
def test_what_was_damaged_since_is_made_again_without_being_asked(
    runs: list[str], output: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable
) -> None:
    first = make_ensemble(runs, output)
    reads = output / "evaluation" / "test_reads.json"
    reads.parent.mkdir()
    reads.write_text("[]")
    damage(output / name)
    assert make_ensemble(runs, output) == first
    assert f"{name}: changed or damaged; all is made again" in capsys.readouterr().err
    assert reads.read_text() == "[]"
    open_run(output)


def test_a_damaged_soup_is_made_again(runs: list[str], output: Path) -> None:
    settings: dict = {"soup": True, "draws": DRAWS}
    ensemble.run([runs[0], runs[2]], str(output), **settings)
    before = (output / "best.keras").stat().st_size
    (output / "best.keras").unlink()
    with pytest.raises(
        RunError, match="no model, though it is an ensemble or a soup; make the ensemble again"
    ):
        open_run(output)
    ensemble.run([runs[0], runs[2]], str(output), **settings)
    assert (output / "best.keras").stat().st_size == before


def test_an_ensemble_that_is_being_judged_is_not_replaced(runs: list[str], output: Path) -> None:
    make_ensemble(runs, output)
    with lock.held(output), pytest.raises(RunError, match="another process is evaluating or replacing it"):
        ensemble.run(runs, str(output), rule="logits", draws=DRAWS, overwrite=True)
    assert json.loads((output / "ensemble.json").read_bytes())["rule"] == "probabilities"
    assert sorted(p.name for p in output.parent.iterdir()) == ["data", "ensemble", "runs"]


def test_a_file_in_place_of_the_output_stays(runs: list[str], output: Path) -> None:
    output.write_text("mine")
    with pytest.raises(ConfigError, match="is a file; choose another folder"):
        ensemble.run(runs, str(output), draws=DRAWS)
    assert output.read_text() == "mine"


@pytest.mark.parametrize("soup", [False, True])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    runs: list[str], output: Path, monkeypatch: pytest.MonkeyPatch, soup: bool
) -> None:
    write = storage.write_bytes

    def full(location: str, data: bytes) -> None:
        if location.endswith("config.yaml"):
            raise StorageError(f"{location}: can't be written: no space left on device")
        write(location, data)

    monkeypatch.setattr(storage, "write_bytes", full)
    with pytest.raises(StorageError, match=r"config.yaml: can't be written"):
        ensemble.run([runs[0], runs[2]], str(output), soup=soup, draws=DRAWS)
    assert sorted(p.name for p in output.parent.iterdir()) == ["data", "runs"]


def test_two_processes_do_not_make_the_same(runs: list[str], output: Path) -> None:
    with RunDirectory(str(output.with_name(".ensemble.making"))).locked():
        assert "another process is making it" in refused(runs, output)

"""A comparison as a user starts it: from a data set to a table, without the test split, cut off or not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fabricated_comparison import settings

from engine.comparison import compare
from records import manifest
from records.errors import RunError
from records.manifest import Manifest

SMALL = [
    "model.image_side_px=32", "model.filters=[2]", "comparison.global_batch=4", "comparison.epochs=1",
    "comparison.seeds=[1, 2]", "comparison.learning_rates=[0.001, 0.01]", "comparison.bootstrap_draws=100",
]  # fmt: skip
LOSSES = "comparison.losses=[{name: bce}, {name: dice, smooth: 1}]"
PROGRAM = """
import sys
from engine.comparison import compare
code = compare.run("configs/losses.yaml", sys.argv[1], sys.argv[2], sys.argv[3:])
print("TensorFlow was", "loaded" if "tensorflow" in sys.modules else "not loaded")
sys.stdout.flush()
import os
os._exit(code)
"""


def _command(data: Manifest, out: Path, losses: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, data.location, str(out), *SMALL, losses]


def _compare(data: Manifest, out: Path, losses: str = LOSSES) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(_command(data, out, losses), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def _told(out: Path) -> dict:
    """What `losses.json` says, without what differs from run to run."""
    told = json.loads((out / "losses.json").read_text())
    for loss in told["losses"]:
        del loss["seconds"]
    return told


@pytest.mark.slow
def test_the_command_ranks_two_losses_and_leaves_table_and_chart(data_set: Manifest, tmp_path: Path) -> None:
    settings = [word for override in (*SMALL, LOSSES, "comparison.seeds=[1]") for word in ("--set", override)]
    begin = [sys.executable, "-m", "engine.cli", "losses", "--config", "configs/losses.yaml"]
    command = [*begin, "--data", data_set.location, "--out", str(tmp_path / "out"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "6/6 dice,smooth=1,rate=" in done.stderr
    assert "each loss's rate was chosen by another seed on the same validation patients" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "losses.csv", "losses.json", "losses.png", "trainings",
    ]  # fmt: skip
    assert {loss["loss"]["name"] for loss in _told(tmp_path / "out")["losses"]} == {"bce", "dice"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")


@pytest.mark.slow
def test_a_comparison_needs_no_test_split_goes_on_after_a_kill_and_ends_as_an_undisturbed_one(
    data_set: Manifest, tmp_path: Path
) -> None:
    for file in (*data_set.splits["test"].shards, data_set.splits["test"].index):
        Path(data_set.locate(file)).unlink()
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    process = subprocess.Popen(_command(data_set, killed, LOSSES), stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + 120
    while len(list(killed.rglob("*.npz"))) < 2 and time.monotonic() < end_s:
        time.sleep(0.05)
    process.kill()
    process.wait()
    standing = {path: path.stat().st_mtime_ns for path in killed.rglob("*.npz")}
    assert 2 <= len(standing) < 8
    again = _compare(data_set, killed)
    assert f"{len(standing) + 1}/8 " in again.stderr
    assert {path: path.stat().st_mtime_ns for path in standing} == standing
    _compare(data_set, undisturbed)
    assert _told(killed) == _told(undisturbed)
    _is_told_again_without_training(data_set, killed)


def _is_told_again_without_training(data_set: Manifest, out: Path) -> None:
    before = _told(out)
    again = _compare(data_set, out)
    assert "TensorFlow was not loaded" in again.stdout
    assert "macro AUROC" in again.stdout
    assert _told(out) == before


def test_an_empty_split_or_one_without_both_kinds_of_images_is_named(write_data_set, tmp_path: Path) -> None:
    sizes = {"train": (7,), "validation": (), "test": (3,)}
    empty = write_data_set(tmp_path / "empty", sizes=sizes)
    with pytest.raises(RunError, match=r"the validation split is empty; a comparison needs both"):
        compare.run("configs/losses.yaml", empty.location, str(tmp_path / "out"))
    one = write_data_set(tmp_path / "one", sizes=sizes | {"validation": (1,)})
    with pytest.raises(RunError, match=r"no finding has both positive and negative validation images"):
        compare.run("configs/losses.yaml", one.location, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(data_set: Manifest, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for out, expected in (
        ("run", r"run: holds something else than a comparison of losses \(run\.json\); choose another --out"),
        ("file", "file: not a folder; choose another --out"),
    ):
        with pytest.raises(RunError, match=expected):
            compare.run("configs/losses.yaml", data_set.location, str(tmp_path / out))
    with pytest.raises(RunError, match=r"expected a local folder for --out"):
        compare.run("configs/losses.yaml", data_set.location, "s3://bucket/out")


def test_what_a_comparison_is_given_has_no_test_split(
    data_set: Manifest, tmp_path: Path, monkeypatch
) -> None:
    seen: list[Manifest] = []

    def look(config, given: Manifest, outcomes) -> None:
        seen.append(given)
        raise RunError("seen")

    monkeypatch.setattr(compare, "_Work", look)
    with pytest.raises(RunError, match="seen"):
        compare.run("configs/losses.yaml", data_set.location, str(tmp_path / "out"))
    assert set(seen[0].splits) == {"train", "validation"}
    assert set(manifest.load(data_set.location).splits) > set(seen[0].splits)


def test_a_rate_with_which_a_loss_diverged_is_chosen_last() -> None:
    assert compare._best({0.1: float("nan"), 0.01: 0.6, 0.001: 0.5}) == 0.01
    assert compare._best({0.1: float("nan"), 0.01: float("nan")}) == 0.1
    assert settings().learning_rates == (0.03,)

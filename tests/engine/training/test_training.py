"""Training end to end on a few drawn records: what a run leaves, repeats and refuses.

One DenseNet of the smallest side is trained in a process of its own, as a user would; where the network
doesn't matter, the guide's with two filters is.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest

from engine import cli
from engine.evaluation import predictions as files
from records.manifest import Manifest

pytestmark = pytest.mark.slow

DENSENET = [
    "--set", "model.image_side_px=32", "--set", "model.head_units=[128, 64]",
    "--set", "train.epochs=2", "--set", "train.global_batch=4",
    "--set", "loss={name: dynamic_weighted_bce, smoothing: 0.1, prevalence: batch}",
]  # fmt: skip


def _densenet(data: Manifest, run: Path, *more: str) -> list[str]:
    flags = ["--config", "configs/demo.yaml", "--data", data.location, "--run-dir", str(run)]
    return ["train", *flags, *DENSENET, *more]


@pytest.fixture(scope="module")
def trained(lasting_data_set: Manifest, engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run = tmp_path_factory.mktemp("trained") / "run"
    done = engine(*_densenet(lasting_data_set, run))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "images/s" in done.stderr
    return run


def test_a_finished_run_says_so_and_holds_config_history_and_best_model(trained):
    known = json.loads((trained / "run.json").read_text())
    assert known["state"] == "finished"
    assert known["epochs_done"] == 2
    assert known["parameters"] == 8_228_081
    assert (trained / "config.yaml").is_file()
    assert (trained / "best.keras").is_file()
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["loss"]) > 0
        assert float(row["val_loss"]) > 0
        assert 0 <= float(row["val_macro_auroc"]) <= 1
        assert float(row["images_per_s"]) > 0


def test_training_again_does_nothing_and_another_config_is_refused(trained, lasting_data_set, capsys):
    before = (trained / "run.json").read_bytes()
    for more in ((), ("--resume", "auto"), ("--set", "checkpoint.keep_last=1")):
        assert cli.main(_densenet(lasting_data_set, trained, *more)) == 0
        assert "nothing to do" in capsys.readouterr().out
    for more in ((), ("--resume", "auto")):
        assert cli.main(_densenet(lasting_data_set, trained, "--set", "train.seed=2", *more)) == 1
        assert "holds another run (train.seed is 17 there, 2 here)" in capsys.readouterr().err
    assert (trained / "run.json").read_bytes() == before


def test_evaluate_judges_each_test_record_once_and_recognises_that_it_has(trained, lasting_data_set, engine):
    done = engine("evaluate", "--run-dir", str(trained), "--split", "test")
    assert done.returncode == 0, done.stderr
    assert "macro" in done.stdout.lower()
    predictions = files.read(trained / "evaluation" / "test" / "predictions.csv")
    split = lasting_data_set.splits["test"]
    assert len(set(predictions.image_ids)) == len(predictions.image_ids) == split.images
    metrics = json.loads((trained / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["images"] == split.images
    again = engine("evaluate", "--run-dir", str(trained), "--split", "test")
    assert again.returncode == 0
    assert "evaluated already" in again.stderr


def test_a_killed_run_says_so_and_is_not_taken_for_a_finished_one(tiny_command, begun, tmp_path, capsys):
    run = tmp_path / "run"
    with begun(tiny_command(run), "starting TensorFlow") as process:
        process.kill()
    assert json.loads((run / "run.json").read_text())["state"] == "unfinished"
    assert cli.main(["evaluate", "--run-dir", str(run)]) == 1
    assert "killed after 0 of 2 epochs" in capsys.readouterr().err
    assert cli.main(tiny_command(run)) == 1
    printed = capsys.readouterr().err
    assert "holds a run (killed after 0 of 2 epochs)" in printed
    assert "go on with it by --resume auto" in printed
    assert "--overwrite" in printed


def test_an_interrupted_run_says_so_and_leaves_a_checkpoint(tiny_command, begun, tmp_path):
    run = tmp_path / "run"
    with begun(tiny_command(run, "train.epochs=500"), "first step after") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    assert len(list((run / "checkpoints").iterdir())) == 1


def test_an_interrupt_before_the_model_stands_puts_the_earlier_run_back(
    trained, tiny_command, begun, tmp_path
):
    run = tmp_path / "run"
    run.mkdir()
    for file in ("run.json", "config.yaml", "history.csv"):
        shutil.copy(trained / file, run / file)
    before = {path: path.read_bytes() for path in run.iterdir()}
    with begun(tiny_command(run, flags=("--overwrite",)), "starting TensorFlow") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert {path: path.read_bytes() for path in run.iterdir() if path.name != ".lock"} == before


def test_settings_that_can_not_work_are_refused_before_anything_is_touched(trained, lasting_data_set, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    for override, expected in (
        ("model.weights=/nowhere.keras", "model.weights is `/nowhere.keras`"),
        ("model.image_side_px=999", "the data set stores 32 pixels a side"),
        ("loss.name=bceee", "did you mean `bce`?"),
    ):
        assert cli.main(_densenet(lasting_data_set, trained, "--overwrite", "--set", override)) == 2
        assert expected in capsys.readouterr().err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_run_whose_weights_can_not_be_read_leaves_no_folder_in_the_way(tiny_command, engine, tmp_path):
    weights = tmp_path / "broken.keras"
    weights.write_bytes(b"no model")
    done = engine(*tiny_command(tmp_path / "run", f"model.weights={weights}"))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_shard_that_is_missing_is_one_line_before_anything_starts(data_set, tmp_path, capsys):
    victim = Path(data_set.locate(data_set.splits["train"].shards[0]))
    victim.unlink()
    assert cli.main(_densenet(data_set, tmp_path / "run")) == 1
    lines = capsys.readouterr().err.splitlines()
    advice = "run the conversion again with --resume"
    assert lines == [f"error: {victim}: missing, but the manifest names it: {advice}"]
    assert not (tmp_path / "run").exists()


def test_a_damaged_shard_stops_training_with_one_line_that_names_it(data_set, tiny_command, engine, tmp_path):
    victim = Path(data_set.locate(data_set.splits["train"].shards[0]))
    spoilt = bytearray(victim.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    victim.write_bytes(spoilt)
    command = tiny_command(tmp_path / "run")
    command[command.index("--data") + 1] = data_set.location
    done = engine(*command)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert victim.name in done.stderr.splitlines()[-1]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "failed"


def test_a_run_that_fails_notes_why_without_credentials(lasting_data_set, tmp_path, monkeypatch):
    from engine.training import fit

    def fails(*_args, on_start, **_options):
        on_start()
        raise ValueError("nothing at https://key:secret@host/bucket")

    monkeypatch.setattr(fit, "fit", fails)
    with pytest.raises(ValueError, match="nothing at"):
        cli.main(_densenet(lasting_data_set, tmp_path / "run"))
    known = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (known["state"], known["error"]) == (
        "failed",
        "ValueError('nothing at https://***@host/bucket')",
    )

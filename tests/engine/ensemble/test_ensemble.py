from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ensemble_making import DRAWS, make_ensemble, refused

from engine.ensemble import ensemble, views
from engine.ensemble.combine import combine
from engine.evaluation import predictions
from engine.evaluation.predictor import Predictor, open_run
from engine.training.run_directory import RunDirectory
from records.errors import ConfigError, RunError
from records.labels import FINDINGS
from records.manifest import Manifest

MakeRun = Callable[..., Path]


def _remove_test_split(data_set: Manifest) -> None:
    for file in Path(data_set.location).parent.glob("test*"):
        file.unlink()


def test_an_ensemble_is_a_run_directory_that_stands_alone(
    runs: list[str], output: Path, data_set: Manifest
) -> None:
    values = make_ensemble(runs, output)
    for run in runs:
        shutil.rmtree(run)
    assert RunDirectory(str(output)).read()["kind"] == "ensemble"
    assert RunDirectory(str(output)).read()["manifest"]["sha256"] == data_set.sha256
    predictor = open_run(output)
    assert [member.name for member in predictor.members] == ["plain", "small", "bce"]
    found = predictor.predict_split(data_set, "validation")
    expected = combine(list(found.members.values()), values["rule"], values["weights"])
    np.testing.assert_allclose(found.predictions.logits, expected)


def test_the_note_says_what_was_chosen_among_what(runs: list[str], output: Path) -> None:
    values = make_ensemble(runs, output)
    assert values["schema"] == 1
    assert [member["name"] for member in values["members"]] == ["plain", "small", "bce"]
    assert [member["image_side_px"] for member in values["members"]] == [32, 16, 32]
    assert values["members"][2]["loss"] == "bce"
    assert {*values["members"][0]} >= {"run_dir", "sha256", "validation_macro_auroc"}
    assert [candidate["name"] for candidate in values["candidates"]] == ["equal", "fitted"]
    assert values["chosen_by"] in ("equal", "fitted")
    assert values["guard"]["folds"] == 5
    assert {*values["validation"]} >= {"macro_auroc", "gain_over_best", "gain_over_mean"}
    assert values["tta"] is None
    assert sum(values["weights"]) == pytest.approx(1)


def test_the_test_split_is_never_opened(runs: list[str], output: Path, data_set: Manifest) -> None:
    _remove_test_split(data_set)
    make_ensemble(runs, output)
    assert ensemble.run([runs[0], runs[2]], str(output.with_name("soup")), soup=True, draws=DRAWS) == 0


def test_members_are_left_as_they_are(runs: list[str], output: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(f): f.read_bytes() for run in runs for f in Path(run).rglob("*") if f.is_file()}

    before = files()
    make_ensemble(runs, output)
    assert files() == before


def test_a_table_and_the_gains_are_printed(
    runs: list[str], output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ensemble(runs, output)
    printed = capsys.readouterr().out
    for part in ("30 images of 15 patients", "small", "16 px", "gain over the best member", "mean member"):
        assert part in printed
    assert printed.endswith(f"judge it with `engine evaluate --run-dir {output}`\n")


def test_the_same_again_is_recognised_and_shown(
    runs: list[str], output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ensemble(runs, output)
    first = capsys.readouterr().out
    made = (output / "run.json").stat().st_mtime_ns
    make_ensemble(runs, output)
    again = capsys.readouterr()
    assert "nothing to do" in again.err
    assert again.out == first
    assert (output / "run.json").stat().st_mtime_ns == made


def test_findings_without_an_auroc_are_named(
    make_run: MakeRun,
    output: Path,
    write_data_set: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_image = write_data_set(tmp_path / "one", sizes={"train": (5,), "validation": (1,), "test": (2,)})
    runs = [str(make_run(name, seed, of=one_image)) for seed, name in enumerate(("one", "two"))]
    assert make_ensemble(runs, output)["chosen_by"] == "equal"
    assert f"not in the macro, for {', '.join(FINDINGS)}\n" in capsys.readouterr().out


def test_what_evaluation_left_is_taken_if_it_is_of_this_model(
    runs: list[str], output: Path, data_set: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in runs:
        _leave_evaluation(Path(run), data_set)
    predicted: list[int] = []
    original = Predictor.predict_split

    def counted(self: Predictor, *args: object, **kwargs: object) -> object:
        predicted.append(len(self.members))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "predict_split", counted)
    first = make_ensemble(runs, output)
    assert predicted == []
    note = Path(runs[0]) / "evaluation" / "validation" / "metrics.json"
    note.write_text(note.read_text().replace('"model_sha256": "', '"model_sha256": "0'))
    assert make_ensemble(runs, output.with_name("second")) == first
    assert predicted == [1]


def _leave_evaluation(run: Path, data_set: Manifest) -> None:
    predictor = open_run(run)
    folder = run / "evaluation" / "validation"
    sha256 = predictions.write(
        folder / "predictions.csv", predictor.predict_split(data_set, "validation").predictions
    )
    told = {
        "model_sha256": predictor.sha256,
        "manifest_sha256": data_set.sha256,
        "predictions_sha256": sha256,
    }
    (folder / "metrics.json").write_text(json.dumps(told))


def test_views_are_averaged_by_the_rule_and_noted(runs: list[str], output: Path, data_set: Manifest) -> None:
    values = make_ensemble(runs[:2], output, tta="rotate", rule="logits", weights="equal")
    assert values["tta"] == {"name": "rotate", "views": [list(view) for view in views.VIEWS["rotate"]]}
    images = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 1), np.uint8)
    plain = [open_run(run) for run in runs[:2]]
    seen = [[one.logits(views.apply(images, view)) for view in views.VIEWS["rotate"]] for one in plain]
    np.testing.assert_allclose(open_run(output).logits(images), np.mean(seen, axis=(0, 1)), atol=1e-5)


def test_the_validation_predictions_of_each_member_are_kept(runs: list[str], output: Path) -> None:
    make_ensemble(runs, output)
    kept = [predictions.read(output / "members" / name / "validation.csv") for name in ("plain", "bce")]
    assert len(kept[0]) == 30
    assert (kept[0].logits != kept[1].logits).any()


def test_members_of_one_folder_name_get_distinct_names(
    make_run: MakeRun, tmp_path: Path, output: Path
) -> None:
    runs = [str(make_run(f"{parent}/model", seed)) for seed, parent in enumerate("abc")]
    assert [member["name"] for member in make_ensemble(runs, output)["members"]] == [
        "model",
        "model-2",
        "model-3",
    ]


def test_a_soup_is_a_run_of_one_model(
    make_run: MakeRun, output: Path, data_set: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(make_run(name, seed)) for seed, name in enumerate(("one", "two"))]
    assert ensemble.run(runs, str(output), soup=True, draws=DRAWS) == 0
    known = RunDirectory(str(output)).read()
    assert known["kind"] == "soup"
    assert known["soup"]["batch_norm"] == {"statistics": "recomputed", "training_pictures": 12}
    assert {*known["soup"]["validation"]} >= {"macro_auroc", "equal_ensemble_macro_auroc"}
    predictor = open_run(output)
    assert len(predictor.members) == 1
    assert predictor.predict_split(data_set, "validation").predictions.logits.shape == (30, len(FINDINGS))
    printed = capsys.readouterr().out
    assert "soup" in printed
    assert "ensemble, equal weights" in printed
    assert ensemble.run(runs, str(output), soup=True, draws=DRAWS) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_a_soup_of_two_architectures_is_refused(runs: list[str], output: Path) -> None:
    with pytest.raises(RunError, match="image_side_px"):
        ensemble.run(runs[:2], str(output), soup=True)


def test_one_class_only_gives_equal_weights_and_says_so(
    runs: list[str], output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _change_validation(monkeypatch, labels=np.zeros((30, len(FINDINGS)), np.uint8))
    values = make_ensemble(runs, output)
    assert values["weights"] == pytest.approx([1 / 3] * 3)
    assert values["validation"]["macro_auroc"] == {"value": None, "low": None, "high": None}
    printed = capsys.readouterr().out
    assert "not defined" in printed
    assert "no finding has both positive and negative validation images" in printed


def test_one_patient_gives_equal_weights_and_says_so(
    runs: list[str], output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _change_validation(monkeypatch, patient_ids=np.ones(30, np.int64))
    values = make_ensemble(runs, output)
    assert values["chosen_by"] == "equal"
    assert values["validation"]["gain_over_best"]["low"] is None
    assert "of one patient" in capsys.readouterr().out


def test_logits_that_are_no_numbers_are_refused_with_run_and_image(
    runs: list[str], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change_validation(monkeypatch, logits_of={"small": np.nan})
    with pytest.raises(RunError, match=r"small: the logits of .*png are no numbers \(such are 1 of 30"):
        ensemble.run(runs, str(output), draws=DRAWS)


def _change_validation(
    monkeypatch: pytest.MonkeyPatch, *, logits_of: dict[str, float] | None = None, **fields: np.ndarray
) -> None:
    """Have what was predicted of the validation split say something else in places."""
    original = Predictor.predict_split

    def changed(self: Predictor, *args: object, **kwargs: object) -> object:
        found = original(self, *args, **kwargs)
        for name, value in (logits_of or {}).items():
            found.members[name][7, 3] = value
        return found._replace(predictions=dataclasses.replace(found.predictions, **fields))

    monkeypatch.setattr(Predictor, "predict_split", changed)


def test_what_makes_no_ensemble_is_refused_in_one_line(
    runs: list[str], output: Path, make_run: MakeRun, write_data_set: Callable, tmp_path: Path
) -> None:
    other = write_data_set(tmp_path / "other", sizes={"train": (5,), "validation": (3,), "test": (2,)})
    elsewhere = str(make_run("elsewhere", 4, of=other))
    copy = shutil.copytree(runs[0], tmp_path / "runs" / "copy")
    empty = make_run("empty", 5)
    (empty / "best.keras").unlink()
    assert "two or more" in refused(runs[:1], output)
    assert "given twice" in refused([runs[0], f"{runs[0]}/."], output)
    assert "its model is that of" in refused([runs[0], str(copy)], output)
    assert "another data set" in refused([runs[0], elsewhere], output)
    assert "no model" in refused([runs[0], str(empty)], output)
    assert "no run here" in refused([runs[0], str(tmp_path / "nothing")], output)
    assert "not the data set of these runs" in refused(runs, output, data=other.location)
    assert "say where with --data" in refused(runs, output, data=str(tmp_path / "gone.json"))
    assert "lies in the member" in refused(runs, Path(runs[0]) / "ensemble")
    assert "lies in the member" in refused(runs, Path(runs[0]))
    assert not output.exists()


def test_settings_that_mean_nothing_are_refused_in_one_line(runs: list[str], output: Path) -> None:
    for settings in (
        {"rule": "median"},
        {"weights": "best"},
        {"tta": "flip"},
        {"soup": True, "tta": "shift"},
    ):
        assert refused(runs, output, **settings).startswith(ConfigError.__name__)
    assert "--draws is 99; expected at least 100" in refused(runs, output, draws=99)


def test_a_folder_that_holds_something_else_is_left_alone(
    runs: list[str], output: Path, make_run: MakeRun
) -> None:
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    assert "no ensemble but other files, such as thesis.txt" in refused(runs, output, overwrite=True)
    assert (output / "thesis.txt").read_text() == "mine"
    training = make_run("training", 9)
    assert "holds a training run" in refused(runs, training, overwrite=True)


def test_an_ensemble_is_no_member(runs: list[str], output: Path) -> None:
    make_ensemble(runs[:2], output)
    assert "an ensemble; name its members" in refused([runs[2], str(output)], output.with_name("more"))


def test_a_member_that_is_not_finished_is_noted(
    runs: list[str], output: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ensemble([runs[0], str(make_run("half", 6, state="interrupted"))], output)
    assert "half: interrupted after 0 of" in capsys.readouterr().err


def test_a_data_set_without_validation_is_refused(
    make_run: MakeRun, output: Path, write_data_set: Callable, tmp_path: Path
) -> None:
    bare = write_data_set(tmp_path / "bare", sizes={"train": (5,), "validation": (), "test": (2,)})
    runs = [str(make_run(name, seed, of=bare)) for seed, name in enumerate(("one", "two"))]
    assert "the validation split is empty" in refused(runs, output)

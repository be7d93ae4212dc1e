from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from judged_runs import make_ensemble, make_run, save_model

from engine.ensemble import combine, views
from engine.evaluation import evaluate, models, predictions
from engine.evaluation.predictor import open_run
from engine.input.reader import ShardReader
from records.errors import RunError
from records.manifest import Manifest

TWO_VIEWS = {"name": "shift", "views": [[0, 0, 0], [0.1, 0, 0]]}


def _pictures(data_set: Manifest, split: str) -> np.ndarray:
    with ShardReader(data_set, split) as reader:
        return reader.gather(np.arange(len(reader)))[0].copy()


def test_a_plain_run_predicts_with_its_best_model_and_has_the_files_name(tmp_path: Path, data_set) -> None:
    directory = make_run(tmp_path / "run", data_set)
    predictor = open_run(directory.path)
    assert predictor.sha256 == models.hash_file(directory.checkpoint_path)
    assert [member.name for member in predictor.members] == ["run"]
    assert (predictor.side_px, predictor.channels) == (32, 1)
    logits = predictor.logits(_pictures(data_set, "test"))
    assert (logits.shape, logits.dtype) == ((7, 14), np.float32)


@pytest.mark.parametrize("changes", [{}, {"rule": "probabilities"}, {"tta": TWO_VIEWS}])
def test_pictures_at_hand_and_pictures_of_shards_give_the_same(tmp_path: Path, data_set, changes) -> None:
    make_ensemble(tmp_path / "ensemble", data_set, **changes)
    predictor = open_run(tmp_path / "ensemble")
    split = predictor.predict_split(data_set, "test", batch=3)
    np.testing.assert_allclose(predictor.logits(_pictures(data_set, "test")), split.predictions.logits, 1e-5)


@pytest.mark.parametrize("rule", combine.RULES)
@pytest.mark.parametrize("tta", [None, TWO_VIEWS])
def test_an_ensemble_is_its_members_combined_over_all_views(tmp_path: Path, data_set, rule, tta) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set, rule=rule, tta=tta)
    pictures = _pictures(data_set, "test")
    split = open_run(directory.path).predict_split(data_set, "test")
    shown = [views.apply(pictures, view) for view in (tta or {"views": [[0, 0, 0]]})["views"]]
    expected = []
    for name, seed in (("one", 4), ("two", 5)):
        alone = make_run(tmp_path / name, data_set, seed=seed)
        predictor = open_run(alone.path)
        expected.append(combine.combine([predictor.logits(images) for images in shown], rule))
        np.testing.assert_allclose(split.members[name], expected[-1], rtol=1e-5, atol=1e-5)
    both = combine.combine(expected, rule, [0.25, 0.75])
    np.testing.assert_allclose(split.predictions.logits, both, rtol=1e-5, atol=1e-5)


def test_pictures_are_read_once_for_all_members(tmp_path: Path, data_set, monkeypatch) -> None:
    make_ensemble(tmp_path / "ensemble", data_set)
    read, gather = [], ShardReader.gather

    def counted(self, rows, out=None):
        read.extend(rows.tolist())
        return gather(self, rows, out)

    monkeypatch.setattr(ShardReader, "gather", counted)
    open_run(tmp_path / "ensemble").predict_split(data_set, "test")
    assert sorted(read) == list(range(7))


def test_all_that_decides_on_an_ensembles_predictions_is_in_its_identity(tmp_path: Path, data_set) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    path = directory.path / "ensemble.json"
    note = json.loads(path.read_bytes())
    first = models.find(directory.path).sha256
    deciding = ({"rule": "probabilities"}, {"weights": [0.5, 0.5]}, {"tta": TWO_VIEWS})
    identities = set()
    for changes in deciding:
        path.write_text(json.dumps(note | changes))
        identities.add(models.find(directory.path).sha256)
    assert len(identities - {first}) == len(deciding)
    path.write_text(json.dumps(note | {"chosen_by": "equal"}))
    assert models.find(directory.path).sha256 == first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": "median"}, "rule is `median`"),
        ({"weights": [1.0]}, "weights of shape"),
        ({"weights": [0.0, 0.0]}, "expected numbers of at least 0, not all of them 0"),
        ({"members": []}, "no member to combine|logits of shape|expected"),
        ({"members": [{"name": "one"}]}, "no `sha256`"),
        ({"members": None}, "not the note of an ensemble"),
        ({"tta": {"views": [[0, 0]]}}, "not the note of an ensemble"),
        ({"tta": {"views": []}}, "no views, or one that isn't of numbers"),
        ({"tta": {"views": [[0, float("nan"), 0]]}}, "no views, or one that isn't of numbers"),
        ({"members": [{"name": "one", "sha256": "0"}] * 2}, "two members of one name"),
        ({"members": [{"name": "a/b", "sha256": "0"}]}, "`a/b`, which is no folder's name"),
        ({"members": [{"name": "..", "sha256": "0"}]}, "`..`, which is no folder's name"),
    ],
)
def test_a_damaged_note_of_an_ensemble_is_one_line(tmp_path: Path, data_set, changes, reason) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set, **changes)
    with pytest.raises(RunError, match=reason) as raised:
        models.find(directory.path)
    assert "ensemble.json" in str(raised.value)
    assert "make the ensemble again with `engine ensemble`" in str(raised.value)


def test_a_note_cut_short_and_a_member_changed_or_missing_are_one_line(tmp_path: Path, data_set) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    member = directory.path / "members" / "two" / "best.keras"
    save_model(member, data_set, seed=9)
    with pytest.raises(RunError, match=r"two/best\.keras: not the model that ensemble\.json names"):
        models.find(directory.path)
    member.unlink()
    with pytest.raises(RunError, match=r"two/best\.keras: a member's model is missing"):
        models.find(directory.path)
    (directory.path / "ensemble.json").write_text('{"rule": ')
    with pytest.raises(RunError, match=r"ensemble\.json: not the note of an ensemble"):
        models.find(directory.path)


def test_members_of_other_pictures_are_refused(tmp_path: Path, data_set, write_data_set) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    other = write_data_set(tmp_path / "other", side_px=48)
    path = directory.path / "members" / "two" / "best.keras"
    save_model(path, other)
    note = json.loads((directory.path / "ensemble.json").read_bytes())
    note["members"][1]["sha256"] = models.hash_file(path)
    (directory.path / "ensemble.json").write_text(json.dumps(note))
    with pytest.raises(RunError, match=r"takes pictures of \(48, 48, 1\), one of \(32, 32, 1\)"):
        open_run(directory.path)


def test_a_data_set_of_other_pictures_is_refused(tmp_path: Path, data_set, write_data_set) -> None:
    directory = make_run(tmp_path / "run", data_set)
    other = write_data_set(tmp_path / "other", side_px=48)
    with pytest.raises(RunError, match=r"pictures of \(48, 48, 1\); the model takes \(32, 32, 1\)"):
        open_run(directory.path).predict_split(other, "test")


def test_an_ensemble_is_judged_like_any_run_and_its_gain_is_printed(tmp_path: Path, data_set, capsys) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    evaluate.run(str(directory.path), draws=100)
    printed = capsys.readouterr().out
    folder = directory.evaluation_path("test")
    metrics = json.loads((folder / "metrics.json").read_bytes())
    frozen = json.loads((directory.path / "evaluation" / "frozen.json").read_bytes())
    assert metrics["gain"]["over_best"]["member"] == frozen["best_member"]
    assert list(metrics["gain"]["members"]) == ["one", "two"]
    assert f"over {frozen['best_member']}, its best member there" in printed
    assert "over the mean of its 2 members" in printed
    whole = predictions.read(folder / "predictions.csv")
    members = [predictions.read(folder / "members" / f"{name}.csv") for name in ("one", "two")]
    combined = combine.combine([member.logits for member in members], "logits", [0.25, 0.75])
    np.testing.assert_allclose(whole.logits, combined, rtol=1e-5, atol=1e-5)
    assert members[0].image_ids.tolist() == whole.image_ids.tolist()
    evaluate.run(str(directory.path), draws=100)
    assert capsys.readouterr().out == printed


def test_a_member_that_gives_nan_is_named(tmp_path: Path, data_set) -> None:
    directory = make_ensemble(tmp_path / "ensemble", data_set)
    path = directory.path / "members" / "two" / "best.keras"
    save_model(path, data_set, scale=np.nan)
    note = json.loads((directory.path / "ensemble.json").read_bytes())
    note["members"][1]["sha256"] = models.hash_file(path)
    (directory.path / "ensemble.json").write_text(json.dumps(note))
    with pytest.raises(RunError, match=r"members/two/best\.keras: 00000200_000\.png: the logit of"):
        evaluate.run(str(directory.path), draws=100)

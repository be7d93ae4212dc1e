"""Run directories whose notes, models, checkpoints, predictions or frozen choices are damaged or hostile."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import Attempt, Case, Ground, engine, reading
from sound import change_json, picture, png, save_model

from engine.evaluation import frozen, predictions, reads
from engine.evaluation.predictions import Predictions
from engine.training import checkpoints
from records.labels import FINDINGS


def _predicting(ground: Ground, run: Path) -> Attempt:
    image = ground.write("image.png", png(picture(1)))
    return engine("predict", "--run-dir", run, image)


def _note(what: str, spoil: Callable[[Path], object], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        run = ground.run()
        spoil(run / "run.json")
        return _predicting(ground, run)

    return Case("run.json", what, write, "all that read a run", line)


NOTES = [
    _note("missing", Path.unlink, r"\S+run: no run here \(run\.json is missing\)"),
    _note("text", lambda path: path.write_text("{"), r"\S+run\.json: not the note of a run"),
    _note("a list", lambda path: path.write_text("[]"), r"\S+run\.json: not the note of a run"),
    _note("key missing", lambda path: change_json(path, state=...), r"\S+run\.json: no `state` in it"),
]


def _with_a_lambda(path: Path) -> None:
    """Save a model that would run code of its own when it is loaded."""
    import keras

    save_model(path, 1, layers=(keras.layers.Lambda(lambda images: images * 2),))


def _without(path: Path, name: str) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist() if member != name}
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def _model(what: str, spoil: Callable[[Path], object], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        run = ground.run()
        spoil(run / "best.keras")
        return _predicting(ground, run)

    return Case("model", what, write, "engine predict, evaluate, ...", r"\S+best\.keras: " + line)


_NO_MODEL = r"can't be loaded as a model: "
MODELS = [
    _model("missing", Path.unlink, r"no model; the run ended before"),
    _model("empty", lambda path: path.write_bytes(b""), _NO_MODEL),
    _model("text", lambda path: path.write_text("weights"), _NO_MODEL),
    _model("cut off", lambda path: path.write_bytes(path.read_bytes()[:-300]), _NO_MODEL),
    _model("no weights", lambda path: _without(path, "model.weights.h5"), _NO_MODEL),
    _model("no config", lambda path: _without(path, "config.json"), _NO_MODEL),
    _model("code of its own", _with_a_lambda, _NO_MODEL + r".*Lambda"),
    _model(
        "other outputs", lambda path: save_model(path, 1, outputs=3), r"takes \(None, 32, 32, 1\) and gives"
    ),
]


def _ensemble(what: str, line: str, spoil: Callable[[Path], object] | None = None, **changes: Any) -> Case:
    def write(ground: Ground) -> Attempt:
        folder = ground.ensemble()
        if spoil:
            spoil(folder)
        if changes:
            change_json(folder / "ensemble.json", **changes)
        return _predicting(ground, folder)

    return Case("ensemble", what, write, "engine predict, evaluate, ...", line)


_ENSEMBLE = r"\S+ensemble\.json: not the note of an ensemble"
ENSEMBLES = [
    _ensemble("text", _ENSEMBLE, lambda folder: (folder / "ensemble.json").write_text("{")),
    _ensemble("no rule", _ENSEMBLE + r" \(no `rule`\)", rule=...),
    _ensemble("unknown rule", _ENSEMBLE, rule="vote"),
    _ensemble("a weight too few", _ENSEMBLE, weights=[1.0]),
    _ensemble(
        "member missing",
        r"\S+members/one/best\.keras: a member's model is missing",
        lambda folder: (folder / "members" / "one" / "best.keras").unlink(),
    ),
    _ensemble(
        "another model for a member",
        r"\S+members/one/best\.keras: not the model that ensemble\.json names",
        lambda folder: save_model(folder / "members" / "one" / "best.keras", 9),
    ),
]


def _checkpoint(what: str, spoil: Callable[[bytes], bytes], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        state = np.frombuffer(json.dumps({"place": {}}).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **{"state.json": state, "weights": np.arange(50.0)})
        path = ground.write("step-000000001.npz", spoil(buffer.getvalue()))
        return reading(lambda: checkpoints.read(path))

    return Case(
        "checkpoint", what, write, "engine train --resume auto", r"\S+\.npz: not a whole checkpoint " + line
    )


def _pickled(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"state.json": np.array([{}], object)})
    return buffer.getvalue()


CHECKPOINTS = [
    _checkpoint("empty", lambda _: b"", r"\(No data left in file"),
    _checkpoint("text", lambda _: b"step 1", r"\("),
    _checkpoint("cut off", lambda data: data[:-30], r"\(File is not a zip file"),
    _checkpoint("a byte flipped", lambda data: data[:500] + b"\x99" + data[501:], r"\("),
    _checkpoint("pickled objects", _pickled, r"\(Object arrays cannot be loaded when allow_pickle=False"),
]


def _predictions(what: str, spoil: Callable[[str], str], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("predictions.csv", spoil(_csv()))
        return reading(lambda: predictions.read(path))

    return Case("predictions.csv", what, write, "engine report, ensemble", r"\S+predictions\.csv: " + line)


def _csv() -> str:
    """Return four rows as `engine evaluate` writes them; the first logit is 0, the first probability 0.5."""
    logits = np.zeros((4, len(FINDINGS)))
    found = Predictions(
        image_ids=np.array([f"0000000{number}_000.png" for number in range(4)]),
        patient_ids=np.arange(4),
        logits=logits,
        labels=logits.astype(np.uint8),
        sex=np.array(["F"] * 4),
        view=np.array(["PA"] * 4),
        age_years=np.full(4, 50.0),
        follow_up=np.zeros(4, np.int64),
    )
    return predictions.to_csv(found, "the model").decode()


PREDICTIONS = [
    _predictions("empty", lambda _: "", r"not a CSV file: No columns"),
    _predictions("header alone", lambda text: text.splitlines()[0], r"no row below the header"),
    _predictions(
        "column missing", lambda text: text.replace("patient_id", "patient"), r"no column `patient_id`"
    ),
    _predictions("word for a number", lambda text: text.replace("0.5", "half", 1), r"row 1: probability_"),
    _predictions(
        "not the logit's", lambda text: text.replace("0.5", "0.6", 1), r"row 1: .* expected the prob"
    ),
    _predictions(
        "image twice", lambda text: text.replace("00000001_", "00000000_"), r"00000000_000\.png stands twice"
    ),
    _predictions(
        "endless patient", lambda text: text.replace("_000.png,1", "_000.png,1e99"), r"row 2: patient_id"
    ),
]


def _chosen() -> dict[str, Any]:
    per_finding = dict.fromkeys(FINDINGS, 0.5)
    return {
        "model_sha256": "a",
        "manifest_sha256": "b",
        "thresholds": {"youden": per_finding},
        "temperatures": dict.fromkeys(FINDINGS, 1.0),
        "best_member": None,
        "frozen_at": "2026-01-01T00:00:00Z",
        "git_commit": None,
    }


def _frozen(what: str, text: Callable[[dict[str, Any]], str], line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("frozen.json", text(_chosen()))
        return reading(lambda: frozen.read(path))

    return Case(
        "frozen.json", what, write, "engine predict, report, ...", r"\S+frozen\.json: damaged " + line
    )


FROZEN = [
    _frozen("text", lambda _: "frozen", r"\(Expecting value"),
    _frozen("a list", lambda _: "[]", r"\("),
    _frozen("key missing", lambda chosen: json.dumps({**chosen, "temperatures": {}}), r"\(other findings"),
    _frozen("unknown key", lambda chosen: json.dumps(chosen | {"extra": 1}), r"\(.*unexpected keyword"),
    _frozen(
        "temperature of zero",
        lambda chosen: json.dumps(chosen | {"temperatures": dict.fromkeys(FINDINGS, 0)}),
        r"\(a temperature that isn't above 0",
    ),
    _frozen(
        "threshold outside of 0 to 1",
        lambda chosen: json.dumps(chosen | {"thresholds": {"youden": dict.fromkeys(FINDINGS, 3)}}),
        r"\(a threshold outside 0 to 1",
    ),
]


def _reads(what: str, text: str, line: str) -> Case:
    def write(ground: Ground) -> Attempt:
        path = ground.write("test_reads.json", text)
        return reading(lambda: reads.read(path))

    return Case(
        "test_reads.json", what, write, "engine evaluate, report", r"\S+test_reads\.json: damaged " + line
    )


READS = [
    _reads("text", "never", r"\(Expecting value"),
    _reads("entry without its keys", "[{}]", r"\(an entry without its keys"),
]

CASES = [*NOTES, *MODELS, *ENSEMBLES, *CHECKPOINTS, *PREDICTIONS, *FROZEN, *READS]

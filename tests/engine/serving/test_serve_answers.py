"""What a running server answers: `engine predict`'s predictions, samples, pictures and heat maps."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from served_run import SIDE_PX, dicom, jpeg, png

from engine.evaluation import predictions
from engine.input.reader import ShardReader
from engine.prediction import predict
from engine.serving.served_model import ServedModel
from records.labels import FINDINGS, NO_FINDING
from records.manifest import Manifest

CLIENTS = 32


def send(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/api/predict", files={"file": ("a name", content)})


def by_finding(answer: dict, key: str) -> dict:
    return {one["finding"]: one[key] for one in answer["findings"]}


@pytest.mark.parametrize("content", [png(3), jpeg(4), dicom(5)], ids=["png", "jpeg", "dicom"])
def test_an_upload_is_predicted_as_engine_predict_does(client, served_run, tmp_path, capsys, content):
    answer = send(client, content).raise_for_status().json()
    (tmp_path / "image").write_bytes(content)
    predict.run(str(served_run), [str(tmp_path / "image")], as_json=True)
    known = json.loads(capsys.readouterr().out)
    (expected,) = known["images"]
    assert [one["finding"] for one in answer["findings"]] == list(FINDINGS)
    assert by_finding(answer, "probability") == pytest.approx(expected["raw_probabilities"], abs=1e-5)
    assert by_finding(answer, "calibrated") == pytest.approx(expected["probabilities"], abs=1e-5)
    assert [name for name, called in by_finding(answer, "called").items() if called] == expected["called"]
    assert answer["truth"] is None
    assert answer["boxes"] == []


def test_members_and_thresholds_are_on_the_scale_of_the_probability(client, served_model):
    answer = send(client, png(3)).json()
    told = client.get("/api/model").json()
    weights = [member["weight"] for member in told["members"]]
    assert weights == [0.25, 0.75]
    for one in answer["findings"]:
        logits = np.log(one["members"]) - np.log1p(-np.array(one["members"]))
        assert one["probability"] == pytest.approx(1 / (1 + np.exp(-np.dot(weights, logits))), abs=1e-5)
        assert one["threshold"] == told["thresholds"]["of"][one["finding"]]
        assert one["called"] == (one["threshold"] is not None and one["probability"] >= one["threshold"])


def test_a_sample_is_predicted_as_the_evaluation_did_beside_its_truth(client, served_run, served_data):
    known = predictions.read(Path(served_run) / "evaluation" / "test" / "predictions.csv")
    for row, image_id in enumerate(known.image_ids):
        answer = client.get(f"/api/samples/{image_id}").raise_for_status().json()
        found = [one["probability"] for one in answer["findings"]]
        assert found == pytest.approx(known.probabilities[row].tolist(), abs=1e-5)
        assert list(answer["truth"].values()) == known.labels[row].astype(bool).tolist()
    first = client.get(f"/api/samples/{known.image_ids[0]}").json()
    boxes = [
        {"finding": name, "x": 0, "y": 0.5, "width": 0.5, "height": 0.5} for name in ("Infiltration", "Mass")
    ]
    assert first["boxes"] == boxes


def test_samples_are_found_by_finding_and_by_part_of_their_id(client, served_data: Manifest):
    with ShardReader(served_data, "test") as reader:
        records = reader.records(np.arange(len(reader)))
    everything = client.get("/api/samples").json()
    assert everything["total"] == len(records)
    assert [sample["id"] for sample in everything["samples"]] == [record.image_id for record in records]
    for column, finding in enumerate(FINDINGS):
        found = client.get("/api/samples", params={"finding": finding}).json()["samples"]
        expected = [record.image_id for record in records if record.labels[column]]
        assert [sample["id"] for sample in found] == expected
        assert all(finding in sample["findings"] for sample in found)
        chosen = client.get("/api/samples/random", params={"finding": finding})
        assert chosen.json()["id"] in expected if expected else chosen.status_code == 404
    healthy = client.get("/api/samples", params={"finding": NO_FINDING}).json()
    assert healthy["total"] == sum(not record.labels.any() for record in records)
    page = client.get("/api/samples", params={"query": "_001", "offset": 1, "limit": 1}).json()
    assert page["total"] == sum("_001" in record.image_id for record in records)
    assert len(page["samples"]) == 1


def test_pictures_are_shown_as_the_model_sees_them(client, served_model: ServedModel, served_data):
    token = send(client, png(3)).json()["id"]
    shown = client.get(f"/api/pictures/{token}.png")
    assert shown.headers["content-type"] == "image/png"
    decoded = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded, served_model.decode(png(3))[..., 0])
    image_id = client.get("/api/samples").json()["samples"][0]["id"]
    stored = client.get(f"/api/samples/{image_id}/picture.png").content
    with ShardReader(served_data, "test") as reader:
        images, _ = reader.gather(np.array([0]))
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED), images[0, ..., 0]
    )


def test_a_heat_map_is_a_layer_as_opaque_as_the_map_is_high(client, served_model: ServedModel):
    token = send(client, png(3)).json()["id"]
    answer = client.get("/api/heatmap", params={"id": token, "finding": "Mass"})
    assert answer.headers["content-type"] == "image/png"
    layer = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert layer.shape == (SIDE_PX, SIDE_PX, 4)
    expected = served_model.heat_map(served_model.decode(png(3)), "Mass")
    assert expected.max() == 1
    assert np.abs(layer[..., 3] / 255 - expected).max() <= 0.5 / 255 + 1e-6
    again = client.get("/api/heatmap", params={"id": token, "finding": "Mass"})
    assert again.content == answer.content
    image_id = client.get("/api/samples").json()["samples"][0]["id"]
    assert client.get("/api/heatmap", params={"sample": image_id, "finding": "Edema"}).is_success


def test_many_clients_at_once_get_what_each_would_get_alone(client, served_model: ServedModel):
    contents = [png(seed) for seed in range(CLIENTS)]
    traced = served_model.predictor._function.experimental_get_tracing_count()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda content: send(client, content).raise_for_status().json(), contents))
    for content, answer in zip(contents, answers, strict=True):
        alone = served_model.predictor.logits(served_model.decode(content)[None])[0]
        found = [one["probability"] for one in answer["findings"]]
        assert found == pytest.approx((1 / (1 + np.exp(-alone))).tolist(), abs=1e-5)
    assert served_model.predictor._function.experimental_get_tracing_count() == traced
    assert len({answer["id"] for answer in answers}) == CLIENTS


def test_the_card_tells_on_what_the_model_was_judged(client, served_run):
    told = client.get("/api/model").json()
    metrics = json.loads((Path(served_run) / "evaluation" / "test" / "metrics.json").read_text())
    assert told["kind"] == "ensemble"
    assert told["split"] == {
        "strategy": "random",
        "name": "test",
        "images": metrics["images"],
        "patients": metrics["patients"],
    }
    assert told["macro_auroc"] == metrics["macro_auroc"]
    assert told["auroc"] == {finding: metrics["findings"][finding]["auroc"] for finding in FINDINGS}
    assert told["calibrated"]
    assert told["has_samples"]
    assert told["has_heatmaps"]
    assert "no medical device" in " ".join(told["limits"])


def test_without_a_data_set_there_are_no_samples_but_predictions(start_server, make_service, served_model):
    client = start_server(make_service(served_model, with_samples=False))
    for path in ("/api/samples", "/api/samples/random", "/api/samples/00000001_000.png"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "--data" in answer.json()["error"]
    assert send(client, png()).is_success

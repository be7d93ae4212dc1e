"""The numbers of `metrics.json` against scikit-learn, from what stands in the file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from judged_runs import HERNIA, make_predictions
from scipy.special import expit
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    hamming_loss,
    log_loss,
    recall_score,
    roc_auc_score,
)

from engine.evaluation import frozen, predictions, subgroups, summary
from engine.evaluation.frozen import Frozen
from engine.evaluation.predictions import Predictions
from engine.metrics import bootstrap
from records.errors import RunError
from records.labels import FINDINGS

DRAWS = 40


def _chosen(known: Predictions, members: dict[str, np.ndarray] | None = None) -> Frozen:
    return frozen.choose(known, members or {}, model_sha256="m", manifest_sha256="d")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    predictions.write(tmp_path / "predictions.csv", make_predictions())
    return tmp_path / "predictions.csv"


@pytest.fixture
def known(path: Path) -> Predictions:
    return predictions.read(path)


@pytest.fixture
def table(path: Path) -> pd.DataFrame:
    """What anyone reads from the file."""
    return pd.read_csv(path)


@pytest.fixture
def judged(known: Predictions) -> dict:
    """Of a test split, with choices from other images."""
    chosen = _chosen(make_predictions(seed=11))
    metrics = summary.summarise(known, {}, chosen, draws=DRAWS)
    return json.loads(json.dumps(metrics, allow_nan=False))


def _columns(table: pd.DataFrame, kind: str) -> np.ndarray:
    return table[[f"{kind}_{finding}" for finding in FINDINGS]].to_numpy()


def test_the_ranking_is_scikit_learns_of_the_file(judged: dict, table: pd.DataFrame) -> None:
    labels, logits = _columns(table, "label"), _columns(table, "logit")
    rest = [column for column in range(14) if column != HERNIA]
    assert judged["macro_auroc"]["value"] == pytest.approx(roc_auc_score(labels[:, rest], logits[:, rest]))
    assert judged["macro_auprc"]["value"] == pytest.approx(
        average_precision_score(labels[:, rest], logits[:, rest])
    )
    assert judged["micro_auroc"]["value"] == pytest.approx(roc_auc_score(labels.ravel(), logits.ravel()))
    assert judged["micro_auprc"]["value"] == pytest.approx(
        average_precision_score(labels.ravel(), logits.ravel())
    )
    for column in rest:
        found = judged["findings"][FINDINGS[column]]
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(labels[:, column], logits[:, column]))
        assert found["auprc"]["low"] < found["auprc"]["value"] < found["auprc"]["high"]


def test_the_counts_at_each_point_are_scikit_learns_of_the_file(judged: dict, table: pd.DataFrame) -> None:
    labels, scores = _columns(table, "label"), _columns(table, "probability")
    assert [point["name"] for point in judged["operating_points"]] == ["0.5", "youden", "sensitivity_0.90"]
    assert [point["chosen_on"] for point in judged["operating_points"]] == [None, "validation", "validation"]
    for point in judged["operating_points"]:
        thresholds = [point["findings"][finding]["threshold"] for finding in FINDINGS]
        known = [column for column in range(14) if thresholds[column] is not None]
        called = scores[:, known] >= np.array([thresholds[column] for column in known])
        total = point["total"]
        assert total["recall"] == pytest.approx(recall_score(labels[:, known], called, average="micro"))
        assert total["f1"] == pytest.approx(f1_score(labels[:, known], called, average="micro"))
        assert total["hamming_loss"] == pytest.approx(hamming_loss(labels[:, known], called))
        assert total["tp"] + total["fp"] + total["tn"] + total["fn"] == called.size
        mass = point["findings"]["Mass"]
        column = FINDINGS.index("Mass")
        matrix = confusion_matrix(labels[:, column], scores[:, column] >= mass["threshold"])
        assert [mass[cell] for cell in ("tn", "fp", "fn", "tp")] == matrix.ravel().tolist()
        assert mass["specificity"] == pytest.approx(matrix[0, 0] / matrix[0].sum())


def test_the_seventh_metric_is_the_mean_of_the_findings_auroc_at_every_point(judged: dict) -> None:
    totals = [point["total"] for point in judged["operating_points"]]
    assert {total["multi_label_auc"] for total in totals} == {judged["macro_auroc"]["value"]}
    assert judged["all_negative_baseline"]["multi_label_auc"] == 0.5
    seven = {"recall", "specificity", "multi_label_auc", "ppv", "npv", "f1", "hamming_loss"}
    assert all(seven <= total.keys() for total in (*totals, judged["all_negative_baseline"]))


def test_a_finding_without_a_threshold_is_left_out_of_a_points_totals(judged: dict) -> None:
    half, youden, _ = judged["operating_points"]
    assert half["findings"]["Hernia"]["specificity"] is not None
    assert set(youden["findings"]["Hernia"].values()) == {None}
    cells = ("tp", "fp", "tn", "fn")
    assert sum(half["total"][cell] for cell in cells) == 14 * judged["images"]
    assert sum(youden["total"][cell] for cell in cells) == 13 * judged["images"]


def test_thresholds_reach_on_validation_what_they_were_chosen_for(known: Predictions) -> None:
    metrics = summary.summarise(known, {}, _chosen(known), draws=DRAWS)
    sensitive = metrics["operating_points"][2]["findings"]
    rest = [finding for finding in FINDINGS if finding != "Hernia"]
    assert all(sensitive[finding]["recall"] >= 0.90 for finding in rest)


def test_calibration_is_scikit_learns_before_and_better_after_where_it_was_fitted(
    known: Predictions, table: pd.DataFrame
) -> None:
    sharp = dataclasses.replace(known, logits=4 * known.logits)
    chosen = _chosen(sharp)
    found = summary.summarise(sharp, {}, chosen, draws=DRAWS)["calibration"]
    mass = FINDINGS.index("Mass")
    labels, logits = _columns(table, "label")[:, mass], 4 * _columns(table, "logit")[:, mass]
    before, after = found["before"]["findings"]["Mass"], found["after"]["findings"]["Mass"]
    temperature = chosen.temperatures["Mass"]
    assert before["brier"] == pytest.approx(brier_score_loss(labels, expit(logits)))
    assert after["brier"] == pytest.approx(brier_score_loss(labels, expit(logits / temperature)))
    assert log_loss(labels, expit(logits / temperature)) < log_loss(labels, expit(logits))
    assert found["after"]["mean"]["ece"] < found["before"]["mean"]["ece"]
    assert found["temperatures"]["Hernia"] == 1.0
    assert sum(images for _, _, images in before["bins"]) == len(known)


def test_positives_are_counted_by_images_and_by_patients_and_few_are_marked(
    judged: dict, known: Predictions
) -> None:
    positive = np.flatnonzero(known.labels[:, 0])
    found = judged["findings"]["Infiltration"]
    assert found["positives"] == len(positive)
    assert found["negatives"] == len(known) - len(positive)
    assert found["positive_patients"] == len(set(known.patient_ids[positive].tolist()))
    assert found["prevalence"] == len(positive) / len(known)
    assert not found["few"]
    assert judged["findings"]["Hernia"]["few"]
    assert (judged["images"], judged["patients"]) == (240, 80)


def test_what_is_not_defined_is_null_and_counts_in_no_mean(judged: dict) -> None:
    hernia = judged["findings"]["Hernia"]
    assert set(hernia["auroc"].values()) == set(hernia["auprc"].values()) == {None}
    assert judged["defined_findings"] == 13
    assert judged["all_negative_baseline"]["ppv"] is None
    assert judged["all_negative_baseline"]["specificity"] == 1.0
    assert judged["gain"] is None


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_not_defined_and_no_error(known: Predictions, label: int) -> None:
    single = dataclasses.replace(known, labels=np.full_like(known.labels, label))
    metrics = summary.summarise(single, {}, _chosen(single), draws=DRAWS)
    metrics = json.loads(json.dumps(metrics, allow_nan=False))
    assert metrics["defined_findings"] == 0
    assert set(metrics["macro_auroc"].values()) == {None}
    assert metrics["operating_points"][1]["total"]["recall"] is None


def test_one_patient_has_values_and_no_intervals(known: Predictions) -> None:
    single = dataclasses.replace(known, patient_ids=np.zeros_like(known.patient_ids))
    metrics = summary.summarise(
        single,
        {"a": known.logits, "b": -known.logits},
        _chosen(single, {"a": known.logits, "b": -known.logits}),
        draws=DRAWS,
    )
    for found in (
        metrics["macro_auroc"],
        metrics["gain"]["over_mean"],
        metrics["subgroups"][0]["macro_auroc"],
    ):
        assert found["value"] is not None
        assert found["low"] is found["high"] is None


def test_each_grouping_holds_every_image_once_and_is_judged_like_the_whole(known: Predictions) -> None:
    found = subgroups.judge(known, draws=DRAWS, seed=0)
    for by in ("sex", "age", "view", "visit"):
        assert sum(group["images"] for group in found if group["by"] == by) == len(known)
    names = [group["group"] for group in found if group["by"] == "age"]
    assert names == ["0-39", "40-59", "60+", "unknown"]
    women = next(group for group in found if group["group"] == "F")
    rows = known.sex == "F"
    for column, finding in enumerate(FINDINGS):
        if column != HERNIA:
            expected = roc_auc_score(known.labels[rows, column], known.logits[rows, column])
            assert women["findings"][finding]["value"] == pytest.approx(expected)
    assert women["patients"] == 40
    assert women["macro_auroc"]["low"] < women["macro_auroc"]["value"] < women["macro_auroc"]["high"]


def test_groups_without_images_are_not_shown(known: Predictions) -> None:
    women = dataclasses.replace(known, sex=np.full(len(known), "F"))
    found = [group["group"] for group in subgroups.judge(women, draws=DRAWS, seed=0) if group["by"] == "sex"]
    assert found == ["F"]


def test_an_ensembles_gain_is_over_the_best_member_of_validation_and_over_the_mean(
    known: Predictions,
) -> None:
    random = np.random.default_rng(0)
    noisy = [known.logits + random.normal(scale=scale, size=known.logits.shape) for scale in (2.0, 1.0)]
    members = {"worse": noisy[0], "better": noisy[1]}
    chosen = _chosen(known, members)
    assert chosen.best_member == "better"
    gain = summary.summarise(known, members, chosen, draws=DRAWS)["gain"]
    rest = [column for column in range(14) if column != HERNIA]
    own, worse, better = (
        roc_auc_score(known.labels[:, rest], logits[:, rest]) for logits in (known.logits, *noisy)
    )
    assert gain["over_best"]["member"] == "better"
    assert gain["over_best"]["macro_auroc"]["value"] == pytest.approx(own - better)
    assert gain["over_mean"]["value"] == pytest.approx(own - (worse + better) / 2)
    assert gain["over_mean"]["low"] < gain["over_mean"]["value"] < gain["over_mean"]["high"]
    assert gain["members"]["worse"]["macro_auroc"]["value"] == pytest.approx(worse)
    assert gain["findings"]["Hernia"]["value"] is None
    paired = bootstrap.paired_macro_gain(
        known.labels, known.logits, noisy[1], known.patient_ids, draws=DRAWS, seed=summary.SEED
    )
    assert list(gain["over_best"]["macro_auroc"].values()) == pytest.approx(list(paired), abs=1e-12)


def test_a_best_member_of_validation_stays_the_best_where_another_one_does_better(known: Predictions) -> None:
    members = {"one": known.logits, "other": -known.logits}
    chosen = dataclasses.replace(_chosen(known, members), best_member="other")
    assert summary.summarise(known, members, chosen, draws=DRAWS)["gain"]["over_best"]["member"] == "other"


def test_without_choices_only_one_half_is_a_point(known: Predictions) -> None:
    metrics = summary.summarise(known, {}, None, draws=DRAWS)
    assert [point["name"] for point in metrics["operating_points"]] == ["0.5"]
    assert metrics["calibration"]["temperatures"] is metrics["calibration"]["after"] is None
    assert summary.is_of(metrics, None)
    assert not summary.is_of(metrics, _chosen(known))


def test_other_choices_are_noticed(known: Predictions) -> None:
    chosen = _chosen(known)
    metrics = json.loads(json.dumps(summary.summarise(known, {}, chosen, draws=DRAWS)))
    assert summary.is_of(metrics, chosen)
    assert not summary.is_of(metrics, _chosen(make_predictions(seed=11)))
    assert not summary.is_of(metrics, None)
    members = {"one": known.logits, "other": -known.logits}
    chosen = _chosen(known, members)
    metrics = summary.summarise(known, members, chosen, draws=DRAWS)
    assert summary.is_of(metrics, chosen)
    assert not summary.is_of(metrics, dataclasses.replace(chosen, best_member="other"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b'{"macro_auroc": 0.8}', "of schema 1; expected 2: evaluate again"),
        (b'{"schema": 2}', "damaged .no `bootstrap`"),
    ],
)
def test_metrics_that_cannot_be_used_are_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(RunError, match="no metrics; make them with `engine evaluate`"):
        summary.read(path)
    path.write_bytes(content)
    with pytest.raises(RunError, match=reason):
        summary.read(path)

"""Section `loss` of a config: every loss by its name, each key in its range."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from loss_references import CASES, LABELS, LOGITS, POSITIVES, RECORDS

from engine import config
from engine.losses import build_loss
from records.errors import ConfigError


def _loaded(section: dict) -> config.LossConfig:
    return config.load(
        "configs/baseline.yaml", [f"loss={yaml.safe_dump(section, default_flow_style=True)}"]
    ).loss


@pytest.mark.parametrize("case", CASES)
def test_every_loss_can_be_named_by_a_config_and_built(case):
    settings = CASES[case][0]
    loaded = _loaded(asdict(settings))
    assert loaded == settings
    assert np.isfinite(build_loss(loaded, POSITIVES, RECORDS)(LABELS, LOGITS))


@pytest.mark.parametrize(
    ("case", "key", "value", "expected"),
    [
        ("weighted_bce", "pos_weight", -1, "loss.pos_weight is -1.0; expected at least 0"),
        ("dynamic_weighted_bce", "smoothing", 1.5, "loss.smoothing is 1.5; expected 0 to 1"),
        (
            "dynamic_weighted_bce",
            "prevalence",
            "running",
            "loss.prevalence is `running`; expected one of batch, tr",
        ),
        ("running_weighted_bce", "smoothing", -0.1, "loss.smoothing is -0.1; expected 0 to 1"),
        ("running_weighted_bce", "momentum", 1, "loss.momentum is 1.0; expected at least 0 and below 1"),
        ("smoothed_bce", "smoothing", 2, "loss.smoothing is 2.0; expected 0 to 1"),
        ("focal", "alpha", 1.1, "loss.alpha is 1.1; expected 0 to 1"),
        ("focal", "gamma", -1, "loss.gamma is -1.0; expected at least 0"),
        ("class_balanced_focal", "beta", 1, "loss.beta is 1.0; expected at least 0 and below 1"),
        ("class_balanced_focal", "gamma", -1, "loss.gamma is -1.0; expected at least 0"),
        ("asymmetric", "gamma_positive", -1, "loss.gamma_positive is -1.0; expected at least 0"),
        ("asymmetric", "gamma_negative", -1, "loss.gamma_negative is -1.0; expected at least 0"),
        ("asymmetric", "margin", 1, "loss.margin is 1.0; expected at least 0 and below 1"),
        ("distribution_balanced", "map_alpha", -1, "loss.map_alpha is -1.0; expected at least 0"),
        ("distribution_balanced", "map_beta", -1, "loss.map_beta is -1.0; expected at least 0"),
        ("distribution_balanced", "map_mu", -1, "loss.map_mu is -1.0; expected at least 0"),
        ("distribution_balanced", "negative_scale", 0.5, "loss.negative_scale is 0.5; expected at least 1"),
        ("distribution_balanced", "bias_scale", -1, "loss.bias_scale is -1.0; expected at least 0"),
        ("hill", "offset", 0.5, "loss.offset is 0.5; expected at least 1"),
        ("hill", "margin", -1, "loss.margin is -1.0; expected at least 0"),
        ("hill", "gamma", -1, "loss.gamma is -1.0; expected at least 0"),
        ("poly1", "epsilon", -2, "loss.epsilon is -2.0; expected at least -1"),
        ("dice", "smooth", -1, "loss.smooth is -1.0; expected at least 0"),
        ("tversky", "false_positive_weight", -1, "loss.false_positive_weight is -1.0; expected at least 0"),
        ("tversky", "false_negative_weight", -1, "loss.false_negative_weight is -1.0; expected at least 0"),
        ("focal_tversky", "smooth", -1, "loss.smooth is -1.0; expected at least 0"),
        ("focal_tversky", "gamma", 0.5, "loss.gamma is 0.5; expected 1 to 3"),
        ("auc_margin", "margin", 2, "loss.margin is 2.0; expected 0 to 1"),
        ("bce", "smoothing", 0.1, "unknown key `loss.smoothing`"),
        ("macro_f1", "smooth", 1, "unknown key `loss.smooth`"),
    ],
)
def test_a_key_out_of_its_range_is_named(case, key, value, expected):
    with pytest.raises(ConfigError) as raised:
        _loaded({**asdict(CASES[case][0]), key: value})
    assert expected in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_an_unknown_loss_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"loss\.name is `focal_tverski`; did you mean `focal_tversky`\?"):
        _loaded({"name": "focal_tverski"})
    with pytest.raises(ConfigError, match="no loss `own`; expected one of bce, weighted_bce"):
        build_loss(config.LossConfig("own"), POSITIVES, RECORDS)


def test_shipped_configs_name_losses_as_they_did():
    dynamic = config.load("configs/baseline.yaml").loss
    assert asdict(dynamic) == {"name": "dynamic_weighted_bce", "smoothing": 0.1, "prevalence": "batch"}
    assert asdict(config.load("configs/demo.yaml").loss) == {"name": "bce"}
    assert Path("configs/demo.yaml").read_text().count("  prevalence:") == 0

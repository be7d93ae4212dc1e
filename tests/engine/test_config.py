"""Configs are complete and strict, and every one that is shipped can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine import config
from records.errors import ConfigError

CONFIGS = sorted(Path("configs").rglob("*.yaml"))


def _written(tmp_path: Path, change) -> str:
    values = yaml.safe_load(Path("configs/baseline.yaml").read_text())
    change(values)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_shipped_config_can_be_read_and_gives_its_command(path):
    config.load(str(path))
    assert path.read_text().startswith("# ")


def test_the_resolved_config_reads_back_as_itself(tmp_path):
    loaded = config.load("configs/baseline.yaml", ["train.epochs=3", "train.learning_rate=1e-3"])
    path = tmp_path / "config.yaml"
    path.write_text(loaded.to_yaml())
    assert config.load(str(path)) == loaded
    assert (loaded.train.epochs, loaded.train.learning_rate) == (3, 0.001)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda v: v["train"].update(leraning_rate=1),
            "unknown key `train.leraning_rate`; did you mean `train.learning_rate`?",
        ),
        (lambda v: v.update(trian={}), "unknown key `trian`; did you mean `train`?"),
        (lambda v: v["model"].pop("dropout"), "no key `model.dropout`"),
        (lambda v: v.pop("loss"), "no key `loss`"),
        (lambda v: v["train"].update(epochs=True), "train.epochs is `True`; expected a whole number"),
        (lambda v: v["train"].update(epochs=2.5), "train.epochs is `2.5`; expected a whole number"),
        (lambda v: v["train"].update(epochs=0), "train.epochs is 0; expected at least 1"),
        (
            lambda v: v["train"].update(learning_rate="fast"),
            "train.learning_rate is `fast`; expected a number",
        ),
        (lambda v: v["train"].update(learning_rate=0), "expected more than 0"),
        (
            lambda v: v["train"].update(precision="half"),
            "expected one of float32, mixed_float16, mixed_bfloat16",
        ),
        (lambda v: v["model"].update(head_units=128), "model.head_units is `128`; expected a list"),
        (
            lambda v: v["input"].update(oversampled_findings="Hernia"),
            "input.oversampled_findings is `Hernia`; expected a list such as [Hernia, Mass]",
        ),
        (lambda v: v["input"].update(oversampled_findings=["Hernai"]), "did you mean `Hernia`?"),
        (
            lambda v: v["input"].update(oversampled_findings=["Hernia"], reader="tfrecord"),
            "input.oversampled_findings names 1 findings, which the reader `tfrecord` can't repeat",
        ),
        (lambda v: v["augment"].update(zoom=1), "augment.zoom is 1.0; expected at least 0 and below 1"),
        (
            lambda v: v["augment"].update(rotation_degrees=-5),
            "augment.rotation_degrees is -5.0; expected 0 to 180",
        ),
        (lambda v: v["augment"].update(originals=False), "so nothing would be varied; name findings"),
        (lambda v: v["model"].update(dropout=1.5), "model.dropout is 1.5; expected at least 0 and below 1"),
        (lambda v: v["train"].update(plateau_factor=1.0), "train.plateau_factor is 1.0"),
        (lambda v: v["model"].update(cbam_reduction=3), "expected a divisor of 1024"),
        (lambda v: v["loss"].update(name="dynamic_weighted"), "did you mean `dynamic_weighted_bce`?"),
        (lambda v: v.update(model=[]), "section `model` holds no keys"),
        (lambda v: v["model"].update(dropout=float("nan")), "model.dropout is `nan`; expected a number"),
    ],
)
def test_a_wrong_config_names_file_and_key(tmp_path, change, expected):
    path = _written(tmp_path, change)
    with pytest.raises(ConfigError) as raised:
        config.load(path)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "override", ["epochs=3", "train.epochs", "trian.epochs=3", "train.epoch=3", "train.epochs=["]
)
def test_a_wrong_override_is_named(override):
    with pytest.raises(ConfigError, match="--set"):
        config.load("configs/baseline.yaml", [override])


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\udcff"])
def test_a_file_that_is_no_config_is_named(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        config.load(str(path))


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: can't be read"):
        config.load("nowhere.yaml")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    text = Path("configs/baseline.yaml").read_text()
    path.write_text(text.replace("  epochs: ", "  epochs: 3\n  epochs: "))
    with pytest.raises(ConfigError, match="`epochs` stands twice"):
        config.load(str(path))


def test_a_fault_in_an_override_names_the_override():
    with pytest.raises(ConfigError, match=r"--set train\.epochs=0: train\.epochs is 0"):
        config.load("configs/baseline.yaml", ["train.epochs=0"])


def test_the_losses_of_a_config_are_those_that_can_be_built():
    from engine import losses
    from engine.config import loss

    assert tuple(losses.LOSSES) == loss.LOSSES

"""Configs are complete and strict, and every one that is shipped can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine import config
from records.errors import ConfigError

# A comparison of losses and a pipeline have sections of their own.
OTHERS = {Path("configs/losses.yaml"), *Path("configs").glob("pipeline*.yaml")}
CONFIGS = sorted(set(Path("configs").rglob("*.yaml")) - OTHERS)


def _written(tmp_path: Path, change) -> str:
    values = yaml.safe_load(Path("configs/baseline.yaml").read_text())
    change(values)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def _guide_cnn(**changed):
    """A change of the model to the guide's network, with keys of its own changed."""
    section = {
        "name": "guide_cnn",
        "weights": "none",
        "image_side_px": 224,
        "normalisation": "data_set",
        "filters": [16, 32, 64, 128],
        "kernel_px": 7,
        "dropout": 0.2,
    }
    return lambda values: values.update(model={**section, **changed})


def _schedule(**keys):
    """A change of the schedule to these keys."""
    return lambda values: values.update(schedule=keys)


def test_the_name_of_a_model_decides_on_its_keys(tmp_path):
    assert config.load(_written(tmp_path, _guide_cnn())).model.filters == (16, 32, 64, 128)
    for name in ("densenet121", "densenet169", "densenet201"):
        model = config.load("configs/baseline.yaml", [f"model.name={name}_cbam", "model.frozen=[stem]"]).model
        assert (model.backbone, model.frozen) == (name, ("stem",))


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_shipped_config_can_be_read_and_gives_its_command(path):
    config.load(str(path))
    assert path.read_text().startswith("# ")


def test_the_resolved_config_reads_back_as_itself(tmp_path):
    loaded = config.load("configs/baseline.yaml", ["train.epochs=3", "optimizer.learning_rate=1e-3"])
    path = tmp_path / "config.yaml"
    path.write_text(loaded.to_yaml())
    assert config.load(str(path)) == loaded
    assert (loaded.train.epochs, loaded.optimizer.learning_rate) == (3, 0.001)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda v: v["optimizer"].update(leraning_rate=1),
            "unknown key `optimizer.leraning_rate`; did you mean `optimizer.learning_rate`?",
        ),
        (lambda v: v.update(trian={}), "unknown key `trian`; did you mean `train`?"),
        (lambda v: v["model"].pop("dropout"), "no key `model.dropout`"),
        (lambda v: v.pop("loss"), "no key `loss`"),
        (lambda v: v["train"].update(epochs=True), "train.epochs is `True`; expected a whole number"),
        (lambda v: v["train"].update(epochs=2.5), "train.epochs is `2.5`; expected a whole number"),
        (lambda v: v["train"].update(epochs=0), "train.epochs is 0; expected at least 1"),
        (
            lambda v: v["optimizer"].update(learning_rate="fast"),
            "optimizer.learning_rate is `fast`; expected a number",
        ),
        (lambda v: v["optimizer"].update(learning_rate=0), "learning_rate is 0.0; expected more than 0"),
        (lambda v: v["optimizer"].update(clip_norm=-1), "optimizer.clip_norm is -1.0; expected at least 0"),
        (
            lambda v: v["optimizer"].update(ema_momentum=1),
            "optimizer.ema_momentum is 1.0; expected at least 0 and below 1",
        ),
        (lambda v: v["optimizer"].update(name="adma"), "optimizer.name is `adma`; did you mean `adam`?"),
        (lambda v: v["optimizer"].update(name="adamw"), "no key `optimizer.weight_decay`"),
        (
            lambda v: v["optimizer"].update(name="adamw", weight_decay=-0.1),
            "optimizer.weight_decay is -0.1; expected at least 0",
        ),
        (
            lambda v: v["optimizer"].update(name="sgd", momentum=1, nesterov=True),
            "optimizer.momentum is 1.0; expected at least 0 and below 1",
        ),
        (
            lambda v: v["optimizer"].update(name="sgd", momentum=0.9, nesterov=1),
            "optimizer.nesterov is `1`; expected true or false",
        ),
        (lambda v: v.update(schedule={"name": "cosin"}), "schedule.name is `cosin`; did you mean `cosine`?"),
        (
            _schedule(name="plateau", factor=1.0, patience=3, min_delta=0, min_learning_rate=0),
            "schedule.factor is 1.0",
        ),
        (
            _schedule(name="plateau", factor=0.5, patience=0, min_delta=0, min_learning_rate=0),
            "schedule.patience is 0",
        ),
        (
            _schedule(name="plateau", factor=0.5, patience=3, min_delta=-1, min_learning_rate=0),
            "schedule.min_delta is -1.0",
        ),
        (_schedule(name="plateau", factor=0.5, patience=3), "no key `schedule.min_delta`"),
        (_schedule(name="exponential", factor=0), "schedule.factor is 0.0; expected more than 0, at most 1"),
        (
            _schedule(name="exponential", factor=1.1),
            "schedule.factor is 1.1; expected more than 0, at most 1",
        ),
        (_schedule(name="cosine", warmup_epochs=-1, final_share=0), "schedule.warmup_epochs is -1.0"),
        (
            _schedule(name="cosine", warmup_epochs=1, final_share=2),
            "schedule.final_share is 2.0; expected 0 to 1",
        ),
        (lambda v: v["train"].update(micro_batches=0), "train.micro_batches is 0; expected at least 1"),
        (lambda v: v["train"].update(replicas=-1), "train.replicas is -1; expected at least 0"),
        (lambda v: v["train"].update(compilation="yes"), "expected one of auto, always, never"),
        (lambda v: v["train"].update(seed=2**32), "train.seed is 4294967296; expected 0 to 4294967295"),
        (lambda v: v["train"].update(threshold=2), "train.threshold is 2.0; expected 0 to 1"),
        (lambda v: v["train"].update(monitor="loss"), "expected one of val_macro_auroc, val_loss"),
        (
            lambda v: v["checkpoint"].update(every_steps=-1),
            "checkpoint.every_steps is -1; expected at least 0",
        ),
        (lambda v: v["checkpoint"].update(keep_last=0), "checkpoint.keep_last is 0; expected at least 1"),
        (
            lambda v: v["checkpoint"].update(location="gs://bucket/runs"),
            "checkpoint.location is `gs://bucket/runs`; expected s3://bucket/prefix, or an empty text",
        ),
        (
            lambda v: v["checkpoint"].update(best_copies="{epoch}-{loss}.keras"),
            "expected fields of epoch, val_loss",
        ),
        (lambda v: v["checkpoint"].update(best_copies="{epoch.keras"), "expected fields of epoch, val_loss"),
        (
            lambda v: v["checkpoint"].update(best_copies="../{epoch}.keras"),
            "expected a path below the run directory",
        ),
        (
            lambda v: v["checkpoint"].update(best_copies="/{epoch}.keras"),
            "expected a path below the run directory",
        ),
        (lambda v: v["checkpoint"].update(best_copies="{epoch}.h5"), "that ends in `.keras`"),
        (
            lambda v: v["train"].update(precision="half"),
            "expected one of float32, mixed_float16, mixed_bfloat16",
        ),
        (lambda v: v["model"].update(head_units=128), "model.head_units is `128`; expected a list"),
        (
            lambda v: v["input"].update(oversampled_findings="Hernia"),
            "input.oversampled_findings is `Hernia`; expected a list such as [first, second]",
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
        (lambda v: v["model"].update(cbam_reduction=3), "expected a divisor of 1024"),
        (
            lambda v: v["model"].update(name="densenet169_cbam", cbam_reduction=15),
            "expected a divisor of 1664",
        ),
        (lambda v: v["model"].update(name="densnet201_cbam"), "did you mean `densenet201_cbam`?"),
        (
            lambda v: v["model"].update(name="guide_cnn"),
            "unknown key `model.batch_norm_momentum`; expected one of name",
        ),
        (lambda v: v["model"].update(image_side_px=31), "model.image_side_px is 31; expected at least 32"),
        (lambda v: v["model"].update(head_units=[128, 0]), "model.head_units is 0; expected at least 1"),
        (lambda v: v["model"].update(l2=-1), "model.l2 is -1.0; expected at least 0"),
        (lambda v: v["model"].update(batch_norm_momentum=2), "model.batch_norm_momentum is 2.0; expected 0"),
        (lambda v: v["model"].update(normalisation="own"), "expected one of imagenet, data_set"),
        (
            lambda v: v["model"].update(frozen=["conv6"]),
            "model.frozen is `conv6`; expected one of stem, conv2",
        ),
        (
            lambda v: v["model"].update(frozen=["stem", "conv2"], weights="none"),
            "model.weights is `none`, so what model.frozen names (stem, conv2) would stay random",
        ),
        (_guide_cnn(weights="imagenet"), "guide_cnn has none of that; expected none or the path of a file"),
        (_guide_cnn(filters=[]), "model.filters is []; expected a list such as [16, 32, 64, 128]"),
        (_guide_cnn(filters=[16, 0]), "model.filters is 0; expected at least 1"),
        (_guide_cnn(kernel_px=0), "model.kernel_px is 0; expected at least 1"),
        (_guide_cnn(image_side_px=105), "model.image_side_px is 105; expected at least 106, of which 4"),
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
    ("override", "same"),
    [
        ("train.micro_batches=2", False),
        ("train.replicas=4", True),
        ("train.deterministic=true", True),
        ("checkpoint.location=s3://bucket/runs", True),
        ("checkpoint.keep_last=9", True),
        ("input.cache_bytes=7", True),
        ("train.global_batch=12", False),
        ("train.precision=float32", False),
        ("train.epochs=99", False),
        ("checkpoint.best_copies='{epoch}.keras'", False),
        ("optimizer.ema_momentum=0.5", False),
    ],
)
def test_a_run_goes_on_with_other_settings_of_the_machine_alone(override, same):
    begun, later = config.load("configs/baseline.yaml"), config.load("configs/baseline.yaml", [override])
    assert begun != later
    assert (not later.differences(begun.to_yaml())) == same


@pytest.mark.parametrize("text", ["", "a: [", "7", "- 1", "a: 1", "train:\n"])
def test_a_file_that_is_no_config_is_no_recipe(text):
    assert config.load("configs/baseline.yaml").differences(text)


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

"""One run's settings: flat YAML read into frozen dataclasses, complete and strict.

A config file names every key, so no default hides in code; an unknown or missing key, a value of another type
or out of range is an error that says which. `--set section.key=value` overrides are checked alike.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from records.errors import ConfigError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
READERS = ("index", "tfrecord")
MODELS = ("densenet121_cbam",)
LOSSES = ("bce", "weighted_bce", "dynamic_weighted_bce")
BACKBONE_CHANNELS = 1024  # of DenseNet121
PREVALENCES = ("batch", "training")
MONITORS = ("val_macro_auroc", "val_loss")


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        name: one of `MODELS`.
        weights: `imagenet`, `none`, or the path of a weights or model file.
        image_side_px: what the stored picture is reduced to inside the model.
        head_units: widths of the dense layers before the findings.
        dropout: rate behind each of them.
        l2: weight of their regularisation.
        cbam_reduction: of the channel attention's shared layers.
        batch_norm_momentum: of the backbone's running statistics; Keras's is 0.99.
    """

    name: str
    weights: str
    image_side_px: int
    head_units: tuple[int, ...]
    dropout: float
    l2: float
    cbam_reduction: int
    batch_norm_momentum: float

    def __post_init__(self) -> None:
        _choice("model.name", self.name, MODELS)
        _at_least("model.image_side_px", self.image_side_px, 32)
        _at_least("model.l2", self.l2, 0)
        _at_least("model.cbam_reduction", self.cbam_reduction, 1)
        if BACKBONE_CHANNELS % self.cbam_reduction:
            raise ConfigError(
                f"model.cbam_reduction is {self.cbam_reduction}; expected a divisor of {BACKBONE_CHANNELS}"
            )
        _between("model.batch_norm_momentum", self.batch_norm_momentum, 0, 1)
        _below_one("model.dropout", self.dropout)
        for units in self.head_units:
            _at_least("model.head_units", units, 1)


@dataclass(frozen=True)
class LossConfig:
    """What is minimised.

    Attributes:
        name: of a loss in `engine.losses`.
        smoothing: of the dynamic loss's ratios towards one half.
        prevalence: what those ratios are: the batch's, as published, or the training set's.
    """

    name: str
    smoothing: float
    prevalence: str

    def __post_init__(self) -> None:
        _choice("loss.name", self.name, LOSSES)
        _between("loss.smoothing", self.smoothing, 0, 1)
        _choice("loss.prevalence", self.prevalence, PREVALENCES)


@dataclass(frozen=True)
class InputConfig:
    """How records become batches.

    Attributes:
        reader: `index` gathers whole batches; `tfrecord` is TensorFlow's own reader.
        shuffle_block_shards: shards that `index` shuffles together; 0 is a true global shuffle.
        shuffle_buffer_records: that `tfrecord` shuffles among.
        prefetch_batches: kept ready ahead of the step.
    """

    reader: str
    shuffle_block_shards: int
    shuffle_buffer_records: int
    prefetch_batches: int

    def __post_init__(self) -> None:
        _choice("input.reader", self.reader, READERS)
        _at_least("input.shuffle_block_shards", self.shuffle_block_shards, 0)
        _at_least("input.shuffle_buffer_records", self.shuffle_buffer_records, 1)
        _at_least("input.prefetch_batches", self.prefetch_batches, 1)


@dataclass(frozen=True)
class TrainConfig:
    """The loop.

    Attributes:
        seed: of initial weights, dropout and record order.
        epochs: at most.
        global_batch: records a step.
        learning_rate: of Adam.
        precision: Keras's dtype policy; logits and losses are float32 under each.
        monitor: decides on checkpoint, rate and stopping.
        early_stopping_patience: epochs without a better value before the run ends.
        plateau_patience: epochs without a better value before the rate falls.
        plateau_factor: that it then falls by.
        min_learning_rate: that it doesn't fall below.
    """

    seed: int
    epochs: int
    global_batch: int
    learning_rate: float
    precision: str
    monitor: str
    early_stopping_patience: int
    plateau_patience: int
    plateau_factor: float
    min_learning_rate: float

    def __post_init__(self) -> None:
        _between("train.seed", self.seed, 0, 2**32 - 1)
        _at_least("train.epochs", self.epochs, 1)
        _at_least("train.global_batch", self.global_batch, 1)
        _choice("train.precision", self.precision, PRECISIONS)
        _choice("train.monitor", self.monitor, MONITORS)
        _at_least("train.early_stopping_patience", self.early_stopping_patience, 1)
        _at_least("train.plateau_patience", self.plateau_patience, 1)
        _below_one("train.plateau_factor", self.plateau_factor)
        _at_least("train.min_learning_rate", self.min_learning_rate, 0)
        if not self.learning_rate > 0:
            raise ConfigError(f"train.learning_rate is {self.learning_rate}; expected more than 0")


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig
    loss: LossConfig
    input: InputConfig
    train: TrainConfig

    def to_yaml(self) -> str:
        """Return the resolved config as a file that `load` reads."""
        values = dataclasses.asdict(self)
        values["model"]["head_units"] = list(self.model.head_units)
        return yaml.safe_dump(values, sort_keys=False)


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(
            f"{path}: can't be read: {reason}; expected a config such as configs/baseline.yaml"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: no sections; expected {', '.join(_sections())}")
    for override in overrides:
        _override(values, override)
    try:
        return _read(values)
    except ConfigError as error:
        raise ConfigError(f"{_blamed(path, overrides, str(error))}: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice, which YAML itself would take for the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping whose keys must differ."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for number, key in enumerate(keys) if key in keys[:number]]
        if repeated:
            raise yaml.YAMLError(f"the key `{repeated[0]}` stands twice in one section")
        return super().construct_mapping(node, deep)


def _blamed(path: str, overrides: Sequence[str], reason: str) -> str:
    """Name the override that a fault comes from, or else the file."""
    for override in overrides:
        if reason.startswith(f"{override.partition('=')[0]} "):
            return f"--set {override}"
    return path


def _read(values: dict[str, Any]) -> Config:
    _check_keys(values, _sections(), "")
    return Config(**{name: _read_section(name, kind, values[name]) for name, kind in _sections().items()})


def _read_section(name: str, kind: type, values: Any) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict):
        raise ConfigError(f"section `{name}` holds no keys; expected {', '.join(hints)}")
    _check_keys(values, hints, f"{name}.")
    return kind(**{key: _typed(f"{name}.{key}", values[key], hints[key]) for key in hints})


def _sections() -> dict[str, type]:
    return typing.get_type_hints(Config)


def _check_keys(values: dict[str, Any], known: dict[str, Any], prefix: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key `{prefix}{key}`{_nearest(prefix, str(key), known)}")
    missing = [key for key in known if key not in values]
    if missing:
        raise ConfigError(f"no key `{prefix}{missing[0]}`; a config names every key: add it")


def _nearest(prefix: str, key: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean `{prefix}{close[0]}`?" if close else f"; expected one of {', '.join(known)}"


def _override(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    section, dot, key = name.partition(".")
    if not separator or not dot:
        raise ConfigError(f"--set {override}: expected section.key=value, such as train.epochs=3")
    sections = _sections()
    if section not in sections:
        raise ConfigError(f"--set {override}: unknown key `{section}`{_nearest('', section, sections)}")
    known = typing.get_type_hints(sections[section])
    if key not in known:
        raise ConfigError(f"--set {override}: unknown key `{name}`{_nearest(f'{section}.', key, known)}")
    try:
        values.setdefault(section, {})[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override}: the value is not YAML: {' '.join(str(error).split())}"
        ) from error


def _typed(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias):  # tuple[int, ...]
        if not isinstance(value, list):
            raise ConfigError(f"{name} is `{value}`; expected a list such as [128, 64]")
        return tuple(_typed(name, item, typing.get_args(kind)[0]) for item in value)
    if kind is float:
        return _float(name, value)
    if (kind is int and isinstance(value, bool)) or not isinstance(value, kind):
        raise ConfigError(f"{name} is `{value}`; expected {_KIND_NAMES[kind]}")
    return value


def _float(name: str, value: Any) -> float:
    # YAML 1.1 takes 1e-3 for text because it has no dot.
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is `{value}`; expected a number") from None


_KIND_NAMES = {int: "a whole number", str: "text", bool: "true or false"}


def _choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        nearest = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"{name} is `{value}`; expected one of {', '.join(choices)}{nearest}")


def _below_one(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value}; expected at least 0 and below 1")


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise ConfigError(f"{name} is {value}; expected at least {low}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}; expected {low} to {high}")

"""One run's settings: flat YAML read into frozen dataclasses, complete and strict.

A config file names every key, so no default hides in code; an unknown or missing key, a value of another type
or out of range is an error that says which. `--set section.key=value` overrides are checked alike.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from engine import strict_yaml
from records.errors import ConfigError
from records.labels import FINDINGS

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
READERS = ("index", "tfrecord", "tfio")
NORMALISATIONS = ("imagenet", "data_set")
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
        normalisation: by ImageNet's mean and deviation, or by those of the data set's training pictures.
        head_units: widths of the dense layers before the findings.
        dropout: rate behind each of them.
        l2: weight of their regularisation.
        cbam_reduction: of the channel attention's shared layers.
        batch_norm_momentum: of the backbone's running statistics; Keras's is 0.99.
    """

    name: str
    weights: str
    image_side_px: int
    normalisation: str
    head_units: tuple[int, ...]
    dropout: float
    l2: float
    cbam_reduction: int
    batch_norm_momentum: float

    def __post_init__(self) -> None:
        _choice("model.name", self.name, MODELS)
        _at_least("model.image_side_px", self.image_side_px, 32)
        _choice("model.normalisation", self.normalisation, NORMALISATIONS)
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
        reader: `index` gathers whole batches; `tfrecord` is TensorFlow's own reader, and `tfio` the same
            with TensorFlow I/O's S3 file system below it.
        shuffle_block_shards: shards that `index` shuffles together; 0 is a true global shuffle.
        shuffle_buffer_records: that the other readers shuffle among.
        oversampled_findings: training records with any of them stand in each epoch once more.
        prefetch_batches: kept ready ahead of the step.
        prefetch_to_device: whether they wait in the memory of the GPU, where there is one.
        cache_bytes: that local copies of remote shards may take, of all processes on the machine.
    """

    reader: str
    shuffle_block_shards: int
    shuffle_buffer_records: int
    oversampled_findings: tuple[str, ...]
    prefetch_batches: int
    prefetch_to_device: bool
    cache_bytes: int

    def __post_init__(self) -> None:
        _choice("input.reader", self.reader, READERS)
        _at_least("input.shuffle_block_shards", self.shuffle_block_shards, 0)
        _at_least("input.shuffle_buffer_records", self.shuffle_buffer_records, 1)
        _at_least("input.prefetch_batches", self.prefetch_batches, 1)
        _at_least("input.cache_bytes", self.cache_bytes, 1)
        for finding in self.oversampled_findings:
            _choice("input.oversampled_findings", finding, FINDINGS)
        if self.oversampled_findings and self.reader != "index":
            raise ConfigError(
                f"input.oversampled_findings names {len(self.oversampled_findings)} findings, which the "
                f"reader `{self.reader}` can't repeat; expected none, or input.reader=index"
            )


@dataclass(frozen=True)
class AugmentConfig:
    """How training pictures are varied, inside the compiled step; each range is symmetric, 0 turns it off.

    Attributes:
        rotation_degrees: by up to so many either way.
        zoom: by a factor from 1 - zoom to 1 + zoom.
        shift: by up to this share of the side along each axis.
        brightness: up to this share of the full scale added or taken away.
        contrast: by a factor from 1 - contrast to 1 + contrast about the picture's own mean.
        flip: whether every second picture is mirrored; the heart then lies on the right.
        originals: whether all records are varied; false: only the repeats of oversampled ones.
    """

    rotation_degrees: float
    zoom: float
    shift: float
    brightness: float
    contrast: float
    flip: bool
    originals: bool

    def __post_init__(self) -> None:
        _between("augment.rotation_degrees", self.rotation_degrees, 0, 180)
        _between("augment.shift", self.shift, 0, 1)
        _between("augment.brightness", self.brightness, 0, 1)
        _between("augment.contrast", self.contrast, 0, 1)
        _below_one("augment.zoom", self.zoom)

    @property
    def is_on(self) -> bool:
        """Whether any picture can differ from the stored one."""
        ranges = (self.rotation_degrees, self.zoom, self.shift, self.brightness, self.contrast)
        return self.flip or any(ranges)


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
    augment: AugmentConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        if self.augment.is_on and not self.augment.originals and not self.input.oversampled_findings:
            raise ConfigError(
                "augment.originals is false and input.oversampled_findings names none, so nothing would be "
                "varied; name findings, or set augment.originals to true"
            )

    def to_yaml(self) -> str:
        """Return the resolved config as a file that `load` reads."""
        sections = dataclasses.asdict(self)
        values = {
            section: {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
            for section, keys in sections.items()
        }
        return yaml.safe_dump(values, sort_keys=False)


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: of a YAML file that names every key.
        overrides: `section.key=value` each, the value in YAML.

    Raises:
        ConfigError: with the file and the key.
    """
    return strict_yaml.load(path, overrides, Config, example="configs/baseline.yaml")


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

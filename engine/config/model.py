"""The network: section `model`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import at_least, below_one, between, choice
from records.errors import ConfigError

NORMALISATIONS = ("imagenet", "data_set")
MODELS = ("densenet121_cbam",)
BACKBONE_CHANNELS = 1024  # of DenseNet121


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
        choice("model.name", self.name, MODELS)
        at_least("model.image_side_px", self.image_side_px, 32)
        choice("model.normalisation", self.normalisation, NORMALISATIONS)
        at_least("model.l2", self.l2, 0)
        at_least("model.cbam_reduction", self.cbam_reduction, 1)
        if BACKBONE_CHANNELS % self.cbam_reduction:
            raise ConfigError(
                f"model.cbam_reduction is {self.cbam_reduction}; expected a divisor of {BACKBONE_CHANNELS}"
            )
        between("model.batch_norm_momentum", self.batch_norm_momentum, 0, 1)
        below_one("model.dropout", self.dropout)
        for units in self.head_units:
            at_least("model.head_units", units, 1)

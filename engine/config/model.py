"""The network: section `model`, whose keys depend on which one its `name` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from engine.config.checks import at_least, below_one, between, choice
from records.errors import ConfigError

NORMALISATIONS = ("imagenet", "data_set")
# Of the DenseNets in keras.applications: the channels of the features that attention weighs.
BACKBONE_CHANNELS = {"densenet121": 1024, "densenet169": 1664, "densenet201": 1920}
# In the order of the data; a stage's transition, which halves the side, is frozen with it.
STAGES = ("stem", "conv2", "conv3", "conv4", "conv5")
# What keras.applications builds a DenseNet for; five halvings of less would leave no pixel.
SMALLEST_DENSENET_SIDE_PX = 32


@dataclass(frozen=True)
class ModelConfig:
    """What every network takes.

    Attributes:
        choices: the networks by name.
        name: of one of them.
        weights: `imagenet`, `none`, or the path of a weights or model file.
        image_side_px: what the stored picture is reduced to inside the model.
        normalisation: by ImageNet's mean and deviation, or by those of the data set's training pictures.
        dropout: rate before, or between, the dense layers that end the network.
    """

    choices: ClassVar[dict[str, type[ModelConfig]]]
    name: str
    weights: str
    image_side_px: int
    normalisation: str
    dropout: float

    def __post_init__(self) -> None:
        choice("model.normalisation", self.normalisation, NORMALISATIONS)
        below_one("model.dropout", self.dropout)


@dataclass(frozen=True)
class DenseNetCbamConfig(ModelConfig):
    """A DenseNet of keras.applications with CBAM attention.

    Attributes:
        head_units: widths of the dense layers before the findings; each with ReLU and dropout behind it.
        l2: weight of their regularisation.
        cbam_reduction: how many times narrower the channel attention's hidden layer is than the features.
        batch_norm_momentum: of the backbone's running statistics; Keras's is 0.99, which needs some hundred
            steps to forget where they began, so a run of few steps wants less.
        frozen: stages of the backbone that training leaves as they are, of `STAGES`; their batch
            normalisation runs by its running statistics.
    """

    head_units: tuple[int, ...]
    l2: float
    cbam_reduction: int
    batch_norm_momentum: float
    frozen: tuple[str, ...]

    @property
    def backbone(self) -> str:
        """A key of `BACKBONE_CHANNELS`."""
        return self.name.removesuffix("_cbam")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("model.name", self.name, [f"{backbone}_cbam" for backbone in BACKBONE_CHANNELS])
        at_least("model.image_side_px", self.image_side_px, SMALLEST_DENSENET_SIDE_PX)
        _at_least_one("model.head_units", self.head_units)
        at_least("model.l2", self.l2, 0)
        at_least("model.cbam_reduction", self.cbam_reduction, 1)
        channels = BACKBONE_CHANNELS[self.backbone]
        if channels % self.cbam_reduction:
            raise ConfigError(
                f"model.cbam_reduction is {self.cbam_reduction}; expected a divisor of {channels}"
            )
        between("model.batch_norm_momentum", self.batch_norm_momentum, 0, 1)
        for stage in self.frozen:
            choice("model.frozen", stage, STAGES)
        if self.frozen and self.weights == "none":
            raise ConfigError(
                f"model.weights is `none`, so what model.frozen names ({', '.join(self.frozen)}) would stay "
                "random; name weights, or set model.frozen to []"
            )


@dataclass(frozen=True)
class GuideCnnConfig(ModelConfig):
    """The plain convolutional network of the class-imbalance guide.

    Attributes:
        filters: of each convolution; a ReLU, a 2 x 2 max pool and batch normalisation follow it.
        kernel_px: side of their kernels; nothing is padded.
    """

    filters: tuple[int, ...]
    kernel_px: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "imagenet":
            raise ConfigError(
                "model.weights is `imagenet`; guide_cnn has none of that; expected none or the path of a file"
            )
        if not self.filters:
            raise ConfigError("model.filters is []; expected a list such as [16, 32, 64, 128]")
        _at_least_one("model.filters", self.filters)
        at_least("model.kernel_px", self.kernel_px, 1)
        smallest = 1
        for _ in self.filters:
            smallest = 2 * smallest + self.kernel_px - 1
        if self.image_side_px < smallest:
            raise ConfigError(
                f"model.image_side_px is {self.image_side_px}; expected at least {smallest}, of which "
                f"{len(self.filters)} convolutions of {self.kernel_px} px and halvings leave one pixel"
            )


ModelConfig.choices = {
    **{f"{backbone}_cbam": DenseNetCbamConfig for backbone in BACKBONE_CHANNELS},
    "guide_cnn": GuideCnnConfig,
}


def _at_least_one(name: str, numbers: Sequence[int]) -> None:
    for number in numbers:
        at_least(name, number, 1)

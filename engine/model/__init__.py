"""Models and their layers: from stored uint8 pictures to logits.

Importing this package registers every custom layer, so that `keras.saving.load_model` can read a saved
model in safe mode.
"""

from engine.model.augment import Augment, with_augmentation
from engine.model.cbam import ChannelAttention, SpatialAttention
from engine.model.densenet_cbam import build_densenet121_cbam, probabilities
from engine.model.preprocess import DenseNetPreprocess
from engine.model.weights import WeightTransfer, load_weights

__all__ = [
    "Augment",
    "ChannelAttention",
    "DenseNetPreprocess",
    "SpatialAttention",
    "WeightTransfer",
    "build_densenet121_cbam",
    "load_weights",
    "probabilities",
    "with_augmentation",
]

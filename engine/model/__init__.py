"""Models and their layers: from stored uint8 pictures to logits.

Importing this package registers every custom layer, so that `keras.saving.load_model` can read a saved
model in safe mode.
"""

from engine.model.augment import Augment, with_augmentation
from engine.model.build import build_model
from engine.model.cbam import ChannelAttention, SpatialAttention
from engine.model.logits import probabilities
from engine.model.preprocess import Preprocess
from engine.model.save import save_model
from engine.model.weights import WeightTransfer, load_weights

__all__ = [
    "Augment",
    "ChannelAttention",
    "Preprocess",
    "SpatialAttention",
    "WeightTransfer",
    "build_model",
    "load_weights",
    "probabilities",
    "save_model",
    "with_augmentation",
]

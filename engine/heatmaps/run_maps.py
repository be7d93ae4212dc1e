"""Heat maps of whatever a run directory predicts with: of one model, or the mean of an ensemble's.

P = maps asked for, S = stored side, M = members.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from engine.evaluation.predictor import Predictor
from engine.heatmaps import placement
from engine.heatmaps.boxed_images import BoxedFinding
from engine.heatmaps.grad_cam import CbamMaps, GradCam
from engine.model.logits import probabilities
from records.errors import RunError


class RunMaps:
    """Maps and probabilities of a run.

    An ensemble's map is the mean of its members', each divided by its maximum before, by the weights that its
    predictions have; the views of test-time augmentation are not looked at.

    Attributes:
        layers: by member, the layer whose features are weighed.
    """

    def __init__(self, predictor: Predictor, *, attention: bool, cbam: bool) -> None:
        """Prepare each member that counts.

        Raises:
            RunError: a model has no convolution, or no attention where it is asked for.
        """
        # Each member's map is traced once, which TensorFlow takes for an oversight from the fifth on.
        tf.get_logger().setLevel("ERROR")
        self._predictor = predictor
        weights = predictor.models.weights or [1.0] * len(predictor.members)
        self._weights = [float(weight) for weight in weights]
        used = [
            (member.name, predictor.loaded[member.name], weight)
            for member, weight in zip(predictor.members, self._weights, strict=True)
            if weight
        ]
        self._weights = [weight for *_, weight in used]
        self._cams = {name: GradCam(model, attention=attention) for name, model, _ in used}
        self._attentions = [CbamMaps(model) for _, model, _ in used] if cbam else []
        self.layers = {name: cam.layer for name, cam in self._cams.items()}

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(B, S, S, C) uint8 -> (B, F) float32, as `engine evaluate` has them."""
        return probabilities(self._predictor.logits(images))

    def maps(self, images: np.ndarray, pictures: np.ndarray, boxed: list[BoxedFinding]) -> np.ndarray:
        """Compute the map of each boxed finding.

        Args:
            images: (B, S, S, C) uint8.
            pictures: (P,) rows of `images`.
            boxed: P of them.

        Returns:
            (P, S, S) float32 with a maximum of 1, or all 0.

        Raises:
            RunError: a map isn't finite; the line names its picture.
        """
        columns = np.array([one.column for one in boxed])
        total = np.zeros((len(boxed), *images.shape[1:3]), np.float32)
        for (name, cam), weight in zip(self._cams.items(), self._weights, strict=True):
            found = cam.stored(images, pictures, columns)
            _check_finite(found, boxed, name)
            total += _to_one(found) * np.float32(weight)
        return _to_one(total)

    def cbam(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Compute CBAM's own maps, the members' mean.

        Returns:
            spatial: (B, S, S) float32 from 0 to 1.
            channels: of each member (B, K), since their channels have nothing in common.
        """
        spatial, channels = [], []
        for attention in self._attentions:
            places, weights = attention.of(images)
            spatial.append(placement.upsample(places, attention.placement, images.shape[1]))
            channels.append(weights)
        return np.mean(spatial, axis=0), channels


def open_maps(run_dir: str | Path, *, attention: bool = False, cbam: bool = False) -> RunMaps:
    """Load the models of a run for heat maps.

    Raises:
        RunError: there is no run, no model, or one that Grad-CAM can't be made of.
    """
    from engine.evaluation.predictor import open_run

    return RunMaps(open_run(run_dir), attention=attention, cbam=cbam)


def _to_one(maps: np.ndarray) -> np.ndarray:
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def _check_finite(maps: np.ndarray, boxed: list[BoxedFinding], name: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
    if len(wrong):
        first = boxed[wrong[0]]
        raise RunError(
            f"{name}: {first.image_id}: the heat map of {first.finding} is not finite (as {len(wrong)} of "
            f"{len(boxed)}); the model gives numbers that are none: train again, with a lower "
            "train.learning_rate if it diverged"
        )

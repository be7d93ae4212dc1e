"""What the server predicts with: a run's models, how their logits are read, and their heat maps.

B = pictures, S = stored side in pixels, C = stored channels, F = findings, M = members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.evaluation import operating_points
from engine.evaluation.predictor import open_run
from engine.heatmaps.boxed_images import BoxedFinding
from engine.heatmaps.run_maps import RunMaps
from engine.prediction import calls, pictures
from engine.prediction.calls import raw_probabilities
from engine.serving.answers import Finding
from records.errors import RunError
from records.labels import FINDINGS

# Each a third or a half larger than the one before, so that little is computed for nothing.
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Outcome(NamedTuple):
    """What the models say of one picture.

    Attributes:
        logits: (F,) float32, of all together.
        members: (M, F) float64.
    """

    logits: np.ndarray
    members: np.ndarray


class ServedModel:
    """A run's models; `predict` and `heat_map` are for one thread.

    Args:
        run_dir: folder of the run or ensemble.
        batch: B, at most.
        jpeg_quality: of the data set that it was trained on, if that stores JPEG.

    Attributes:
        predictor: the models themselves.
        calls: calibration and thresholds.
        note: what must be said of them, or nothing.
        has_heatmaps: whether heat maps can be made of every member.

    Raises:
        RunError: there is no run, no model, or a damaged one.
    """

    def __init__(self, run_dir: str | Path, batch: int, jpeg_quality: int | None) -> None:
        self.predictor = open_run(run_dir)
        self.calls, self.note = calls.load(run_dir, self.predictor.sha256, operating_points.YOUDEN)
        self._jpeg_quality = jpeg_quality
        self.sizes = (*(size for size in _SIZES if size < batch), batch)
        self._maps: RunMaps | None = None
        try:
            self._maps = RunMaps(self.predictor, attention=False, cbam=False)
        except RunError as error:
            self.note = "; ".join(filter(None, (self.note, f"no heat maps: {error}")))
        self.has_heatmaps = self._maps is not None

    def warm_up(self) -> None:
        """Run every size of batch and one heat map, so that no request waits for what happens only once."""
        nothing = np.zeros(self.picture_shape, np.uint8)
        for size in self.sizes:
            self.predict([nothing] * size)
        if self._maps:
            self.heat_map(nothing, FINDINGS[0])

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(S, S, C)."""
        return self.predictor.side_px, self.predictor.side_px, self.predictor.channels

    def decode(self, data: bytes) -> np.ndarray:
        """Make of an image file what the models take; see `pictures.read_picture`.

        Returns:
            (S, S, C) uint8.

        Raises:
            ImageError: it is none.
        """
        picture = pictures.read_picture(data, self.predictor.side_px)
        return pictures.as_stored(picture, self.predictor.channels, self._jpeg_quality)

    def predict(self, batch: Sequence[np.ndarray]) -> list[Outcome]:
        """Predict B pictures of (S, S, C) uint8, filled up with black ones to one of the sizes warmed up."""
        size = next(size for size in self.sizes if size >= len(batch))
        images = np.zeros((size, *self.picture_shape), np.uint8)
        images[: len(batch)] = batch
        members = self.predictor.member_logits(images)[:, : len(batch)]
        logits = self.predictor.combined(members).astype(np.float32)
        return [Outcome(logits[row], members[:, row]) for row in range(len(batch))]

    def heat_map(self, picture: np.ndarray, finding: str) -> np.ndarray:
        """Compute where the models look for a finding.

        Returns:
            (S, S) float32 with a maximum of 1, or all 0.

        Raises:
            RunError: the map isn't finite, or the model has none.
        """
        if self._maps is None:
            raise RunError("this model has no heat maps")
        nowhere = np.empty((0, 4))
        asked = BoxedFinding("the picture", 0, "", 0, finding, nowhere, nowhere)
        return self._maps.maps(picture[None], np.array([0]), [asked])[0]

    def findings(self, outcome: Outcome) -> list[Finding]:
        """Read what the models say of one picture.

        Raises:
            RunError: a logit is no number.
        """
        if not (np.isfinite(outcome.logits).all() and np.isfinite(outcome.members).all()):
            raise RunError("a logit is no finite number; train again")
        logits = outcome.logits[None]
        raw = raw_probabilities(logits)[0].tolist()
        calibrated = self.calls.probabilities(logits)[0].tolist()
        called = self.calls.called(logits)[0].tolist()
        members = raw_probabilities(outcome.members).T.tolist()
        return [
            Finding(
                finding=finding,
                probability=raw[column],
                calibrated=calibrated[column] if self.calls.is_calibrated else None,
                threshold=_defined(self.calls.thresholds[column]),
                called=called[column],
                members=members[column],
            )
            for column, finding in enumerate(FINDINGS)
        ]

    @property
    def thresholds(self) -> dict[str, float | None]:
        """Of raw probabilities by finding; None where none could be chosen."""
        return dict(zip(FINDINGS, map(_defined, self.calls.thresholds), strict=True))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

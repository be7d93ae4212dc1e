"""A run directory as something that predicts, be it a single model or an ensemble.

B = pictures, N = images of a split, S = stored side in pixels, C = stored channels, F = findings,
M = members.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from engine.ensemble import combine, views
from engine.evaluation import models
from engine.evaluation.models import Member, Models
from engine.evaluation.predictions import Predictions
from engine.input.cache import CacheSettings
from engine.input.pipeline import faults_raised, padded_evaluation_batches
from engine.input.reader import ShardReader
from engine.model import cbam, preprocess  # noqa: F401 - registers the layers that a saved model names
from records.errors import RunError
from records.labels import FINDINGS
from records.manifest import Manifest

BATCH = 32


class SplitPredictions(NamedTuple):
    """What was predicted of a split.

    Attributes:
        predictions: of all members together, in the index's order.
        members: (N, F) float64 logits of each member by its name.
    """

    predictions: Predictions
    members: dict[str, np.ndarray]

    def of_member(self, name: str) -> Predictions:
        """The predictions of one member."""
        return dataclasses.replace(self.predictions, logits=self.members[name])


class Predictor:
    """Predicts with the models of a run directory; `open_run` makes one.

    Attributes:
        models: what it predicts with.
        side_px: S, of the pictures that it takes, as a data set stores them.
        channels: C.
    """

    def __init__(self, found: Models) -> None:
        """Load the models.

        Raises:
            RunError: a file is damaged or no model of this project, or members take different pictures.
        """
        self.models = found
        self._loaded = [load_model(member.path) for member in found.members]
        shapes = [tuple(model.input_shape[1:]) for model in self._loaded]
        if strange := next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None):
            raise RunError(
                f"{found.members[strange].path}: takes pictures of {shapes[strange]}, "
                f"{found.members[0].name} of {shapes[0]}; members must be trained on one data set"
            )
        self.side_px, self.channels = shapes[0][0], shapes[0][2]
        self._function = tf.function(self._forward, reduce_retracing=True)

    @property
    def sha256(self) -> str:
        """Names all that decides on what is predicted."""
        return self.models.sha256

    @property
    def members(self) -> tuple[Member, ...]:
        """The saved models; one for a plain run."""
        return self.models.members

    @property
    def loaded(self) -> dict[str, keras.Model]:
        """The models themselves, by name."""
        return {member.name: model for member, model in zip(self.members, self._loaded, strict=True)}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Predict pictures.

        Args:
            images: (B, S, S, C) uint8, 0 is black.

        Returns:
            (B, F) float32 logits.
        """
        return self.combined(self.member_logits(images)).astype(np.float32)

    def predict_split(
        self,
        data_set: Manifest,
        split: str,
        batch: int = BATCH,
        cache_settings: CacheSettings | None = None,
    ) -> SplitPredictions:
        """Predict each record of a split once; its pictures are read once for all members.

        Args:
            data_set: its manifest.
            split: train, validation or test.
            batch: records that are predicted at once.
            cache_settings: for copies of a remote data set's shards; None: the user's cache.

        Raises:
            RunError: the data set's pictures are of another shape than the models take.
            CxrError: the data set is at fault.
        """
        with ShardReader(data_set, split, cache_settings=cache_settings) as reader:
            self._check_shape(reader)
            of_members = np.concatenate(list(self._batches(reader, batch)), axis=1)
            predictions = _with_identities(reader, self.combined(of_members))
        names = [member.name for member in self.members]
        return SplitPredictions(predictions, dict(zip(names, of_members, strict=True)))

    def _batches(self, reader: ShardReader, batch: int) -> Iterator[np.ndarray]:
        """(M, B, F) float64 logits, in the index's order."""
        batches = padded_evaluation_batches(reader, min(batch, len(reader)))
        with faults_raised(reader):
            for images, _, weights in batches:
                yield self.member_logits(images)[:, weights.numpy() > 0]

    def member_logits(self, images: np.ndarray | tf.Tensor) -> np.ndarray:
        """(B, S, S, C) uint8 -> (M, B, F) float64 logits, over all views."""
        if self.models.views == (views.IDENTITY,):
            return self._function(tf.convert_to_tensor(images)).numpy().astype(np.float64)
        shown = [views.apply(np.asarray(images), view) for view in self.models.views]
        seen = [self._function(tf.convert_to_tensor(pictures)).numpy() for pictures in shown]
        return combine.combine(seen, self.models.rule)

    def combined(self, of_members: np.ndarray) -> np.ndarray:
        """(M, N, F) -> (N, F); a single model's logits stay as they are."""
        if len(of_members) == 1:
            return of_members[0]
        return combine.combine(of_members, self.models.rule, self.models.weights)

    def _forward(self, images: tf.Tensor) -> tf.Tensor:
        return tf.stack([model(images, training=False) for model in self._loaded])

    def _check_shape(self, reader: ShardReader) -> None:
        expected = (self.side_px, self.side_px, self.channels)
        if reader.image_shape != expected:
            raise RunError(
                f"{reader.manifest.location}: pictures of {reader.image_shape}; the model takes {expected}: "
                "name the data set that it was trained on with --data"
            )


def open_run(run_dir: str | Path) -> Predictor:
    """Load what a run directory predicts with, a single model or an ensemble.

    Raises:
        RunError: there is no run, no model, or a damaged one.
    """
    return Predictor(models.find(run_dir))


def load_model(path: Path) -> keras.Model:
    """Load a saved model in safe mode, for prediction only.

    Raises:
        RunError: the file is damaged or no model of this project.
    """
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: can't be loaded as a model: {reason}; train again") from error
    if len(model.input_shape) != 4 or tuple(model.output_shape[1:]) != (len(FINDINGS),):
        raise RunError(
            f"{path}: takes {model.input_shape} and gives {model.output_shape}; expected pictures, and "
            f"{len(FINDINGS)} logits: train again"
        )
    return model


def _with_identities(reader: ShardReader, logits: np.ndarray) -> Predictions:
    """Say whom each row of a whole split's logits is of, reading each record once."""
    # One by one: parsed records hold their pictures.
    who = []
    for row in range(len(reader)):
        (record,) = reader.records(np.array([row]))
        who.append(
            (
                record.image_id,
                record.patient_id,
                record.labels,
                record.sex,
                record.view,
                record.age_years,
                record.follow_up,
            )
        )
    image_ids, patient_ids, labels, sex, view, ages, follow_up = zip(*who, strict=True)
    return Predictions(
        image_ids=np.array(image_ids, str),
        patient_ids=np.array(patient_ids, np.int64),
        logits=logits,
        labels=np.stack(labels).astype(np.uint8),
        sex=np.array(sex, str),
        view=np.array(view, str),
        age_years=np.array(ages, np.float64),
        follow_up=np.array(follow_up, np.int64),
    )

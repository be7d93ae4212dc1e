"""The runs that an ensemble is made of, and what they say of the validation split.

Which runs fit together is checked here, before anything is predicted. Only the validation split is read,
never the test split, and nothing is written into a member's folder. M = members, N = images, F = findings.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import config as configs
from engine.ensemble.views import IDENTITY, View
from engine.evaluation import models
from engine.evaluation.predictions import FILE_NAME, Predictions, read
from engine.input.cache import CacheSettings, default_folder
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records import json_text, manifest
from records.errors import ConfigError, CxrError, RunError
from records.manifest import Manifest

SPLIT = "validation"


@dataclass(frozen=True)
class Member:
    """A trained run.

    Attributes:
        name: of its folder, with a number behind it where another member's is called the same.
        run_dir: its folder.
        model: its best model's file.
        sha256: of that file.
        manifest: location and sha256 of its data set.
        image_side_px: that its model reduces pictures to.
        loss: that it was trained with.
        cache_bytes: limit of the copies of a remote data set.
    """

    name: str
    run_dir: Path
    model: Path
    sha256: str
    manifest: dict[str, str]
    image_side_px: int
    loss: str
    cache_bytes: int


def find(run_dirs: Sequence[str]) -> list[Member]:
    """Find the members and check that they fit together.

    Raises:
        ConfigError: fewer than two are named, or one twice.
        RunError: one has no model or is an ensemble, or they were trained on different data sets.
    """
    if len(run_dirs) < 2:
        raise ConfigError(f"{len(run_dirs)} run given; an ensemble takes two or more run directories")
    found: list[Member] = []
    for run_dir in run_dirs:
        member = _member(Path(run_dir), taken={other.name for other in found})
        for other in found:
            _check_pair(other, member)
        found.append(member)
    return found


def data_set_of(members: Sequence[Member], location: str | None) -> Manifest:
    """Load the manifest of the members' data set.

    Raises:
        CxrError: it isn't there, or isn't the members', or has no validation split.
    """
    told = members[0].manifest
    try:
        data_set = manifest.load(location or told["location"])
    except CxrError as error:
        raise type(error)(f"{error}; if the data set has moved, say where with --data") from error
    if data_set.sha256 != told["sha256"]:
        raise RunError(
            f"{data_set.location}: not the data set of these runs (manifest {data_set.sha256[:12]}, theirs "
            f"is {told['sha256'][:12]}); name the right one with --data"
        )
    if SPLIT not in data_set.splits or not data_set.splits[SPLIT].images:
        raise RunError(
            f"{data_set.location}: the {SPLIT} split is empty, and an ensemble is judged on nothing else: "
            "convert with other fractions or more images"
        )
    return data_set


def predict(
    members: Sequence[Member], data_set: Manifest, *, rule: str, shown: tuple[View, ...] = (IDENTITY,)
) -> list[Predictions]:
    """What each member says of the validation split, M of them with the same images in the same order.

    What `engine evaluate` has left is taken where it is of the same model and data set and there is one view;
    all others are predicted, their pictures read once.

    Args:
        members: M.
        data_set: theirs.
        rule: of `combine.RULES`, by which views are averaged.
        shown: views of each picture.

    Raises:
        RunError: a model can't be loaded, a logit isn't finite, or what was left is of other images.
    """
    kept = {member.name: _kept(member) for member in members} if shown == (IDENTITY,) else {}
    missing = [member for member in members if kept.get(member.name) is None]
    predicted = _predicted(missing, data_set, rule, shown) if missing else {}
    found = [kept.get(member.name) or predicted[member.name] for member in members]
    for member, predictions in zip(members, found, strict=True):
        _check_alike(member, predictions, found[0])
    return found


def _member(run_dir: Path, taken: set[str]) -> Member:
    directory = RunDirectory(str(run_dir))
    known = directory.read()
    if (directory.path / models.ENSEMBLE_NAME).exists():
        raise RunError(f"{run_dir}: an ensemble; name its members' own run directories instead")
    (model,) = models.find(run_dir).members
    if known["state"] != run_directory.FINISHED:
        print(f"note: {run_dir}: {run_directory.summary(directory)}", file=sys.stderr)
    config = configs.load(str(directory.config_path))
    return Member(
        name=_distinct(model.name, taken),
        run_dir=directory.path,
        model=model.path,
        sha256=model.sha256,
        manifest=known["manifest"],
        image_side_px=config.model.image_side_px,
        loss=config.loss.name,
        cache_bytes=config.input.cache_bytes,
    )


def _distinct(name: str, taken: set[str]) -> str:
    number, distinct = 2, name
    while distinct in taken:
        number, distinct = number + 1, f"{name}-{number}"
    return distinct


def _check_pair(one: Member, other: Member) -> None:
    if one.run_dir.resolve() == other.run_dir.resolve():
        raise ConfigError(f"{other.run_dir}: given twice; a member counts more by its weight")
    if one.sha256 == other.sha256:
        raise ConfigError(f"{other.run_dir}: its model is that of {one.run_dir}; give each model once")
    if one.manifest["sha256"] != other.manifest["sha256"]:
        raise RunError(
            f"{other.run_dir}: trained on another data set ({other.manifest['location']}) than {one.run_dir} "
            f"({one.manifest['location']}); members must share one, or patients of one's validation are in "
            "another's training"
        )


def _kept(member: Member) -> Predictions | None:
    """What `engine evaluate` has left, if it is of this very model and data set."""
    folder = RunDirectory(str(member.run_dir)).evaluation_path(SPLIT)
    try:
        told: Any = json_text.parse((folder / "metrics.json").read_bytes())
        expected = {
            "model_sha256": member.sha256,
            "manifest_sha256": member.manifest["sha256"],
            "predictions_sha256": models.hash_file(folder / FILE_NAME),
        }
        return read(folder / FILE_NAME) if expected.items() <= told.items() else None
    except (OSError, ValueError, AttributeError):
        return None


def _predicted(
    members: Sequence[Member], data_set: Manifest, rule: str, shown: tuple[View, ...]
) -> dict[str, Predictions]:
    from engine.evaluation.predictor import Predictor

    found = tuple(models.Member(member.name, member.model, member.sha256) for member in members)
    print(f"predicting the {SPLIT} split with {len(found)} models ...", file=sys.stderr, flush=True)
    predictor = Predictor(models.of_members(found, rule=rule, shown=shown))
    cached = CacheSettings(default_folder(), members[0].cache_bytes)
    predicted = predictor.predict_split(data_set, SPLIT, cache_settings=cached)
    return {
        name: dataclasses.replace(predicted.predictions, logits=logits)
        for name, logits in predicted.members.items()
    }


def _check_alike(member: Member, found: Predictions, first: Predictions) -> None:
    wrong = ~np.isfinite(found.logits).all(axis=1)
    if wrong.any():
        raise RunError(
            f"{member.run_dir}: the logits of {found.image_ids[wrong][0]} are no numbers (such are "
            f"{wrong.sum():,} of {len(found):,} images); leave this run out, or train it again"
        )
    if not np.array_equal(found.image_ids, first.image_ids) or not np.array_equal(found.labels, first.labels):
        raise RunError(
            f"{member.run_dir}: its {SPLIT} predictions are of other images than the other members'; remove "
            "its folder `evaluation` and try again"
        )

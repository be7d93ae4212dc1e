"""Which model files a run directory predicts with, and what they are called; nothing here loads one.

A plain run has one model, `best.keras`. An ensemble has `ensemble.json`, which names its members, and
`members/NAME/best.keras`. M = members.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.ensemble import combine, views
from engine.training.run_directory import RunDirectory
from records import json_text
from records.errors import RunError
from records.manifest_check import is_inside

ENSEMBLE_NAME = "ensemble.json"
MEMBERS_NAME = "members"
_NO_TTA = {"views": (views.IDENTITY,)}
_AGAIN = "make the ensemble again with `engine ensemble`"


@dataclass(frozen=True)
class Member:
    """One saved model, and the SHA-256 of its file."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Models:
    """The saved models of a run directory, and how they become one.

    Attributes:
        members: M of them; one for a plain run.
        rule: of `combine.RULES`.
        weights: M numbers; None: alike.
        views: of each picture, over which a member's predictions are averaged by the same rule.
        sha256: names the whole: of a plain run its file's, else of all that decides on predictions.
    """

    members: tuple[Member, ...]
    rule: str
    weights: list[float] | None
    views: tuple[views.View, ...]
    sha256: str

    @property
    def is_ensemble(self) -> bool:
        """Whether there is more to it than one model."""
        return len(self.members) > 1


def find(run_dir: str | Path) -> Models:
    """Find the models of a run directory.

    Raises:
        RunError: there is no run, no model yet, or an ensemble that isn't whole.
    """
    directory = RunDirectory(str(run_dir))
    known = directory.read()
    if (directory.path / ENSEMBLE_NAME).is_file():
        return _ensemble(directory.path)
    path = directory.checkpoint_path
    if not path.is_file():
        if known.get("kind"):
            raise RunError(f"{path.parent}: no model, though it is an ensemble or a soup; {_AGAIN}")
        raise RunError(
            f"{path}: no model; the run ended before its first epoch did: "
            "go on with `engine train --resume auto`"
        )
    sha256 = hash_file(path)
    return of_members((Member(directory.path.resolve().name, path, sha256),))


def of_members(
    members: tuple[Member, ...],
    *,
    rule: str = combine.LOGITS,
    weights: list[float] | None = None,
    shown: tuple[views.View, ...] = (views.IDENTITY,),
) -> Models:
    """Name what some models make up together; see `Models`."""
    if len(members) == 1 and shown == (views.IDENTITY,):
        return Models(members, rule, weights, shown, members[0].sha256)
    deciding = [[member.sha256 for member in members], rule, weights, shown]
    sha256 = hashlib.sha256(json.dumps(deciding).encode()).hexdigest()
    return Models(members, rule, weights, shown, sha256)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ensemble(folder: Path) -> Models:
    path = folder / ENSEMBLE_NAME
    try:
        known = json_text.parse(path.read_bytes())
        told = [(str(member["name"]), str(member["sha256"])) for member in known["members"]]
        rule, weights, tta = known["rule"], list(known["weights"]), known.get("tta")
        shown = tuple((float(y), float(x), float(turn)) for y, x, turn in (tta or _NO_TTA)["views"])
        if not shown or not np.isfinite(shown).all():
            raise ValueError("no views, or one that isn't of numbers")
        if len({name for name, _ in told}) < len(told):
            raise ValueError("two members of one name")
        for name, _ in told:
            if "/" in name or not is_inside(name):
                raise ValueError(f"a member `{name}`, which is no folder's name")
        # Shows now, and not after the pictures were read, that they fit together.
        combine.combine([[[0.0]]] * len(told), rule, weights)
    except (ValueError, KeyError, TypeError, AttributeError, RunError) as error:
        reason = f"no `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path}: not the note of an ensemble ({reason}); {_AGAIN}") from error
    members = []
    for name, sha256 in told:
        file = folder / MEMBERS_NAME / name / "best.keras"
        if not file.is_file():
            raise RunError(f"{file}: a member's model is missing; {_AGAIN}")
        if hash_file(file) != sha256:
            raise RunError(f"{file}: not the model that {ENSEMBLE_NAME} names (SHA-256 differs); {_AGAIN}")
        members.append(Member(name, file, sha256))
    return of_members(tuple(members), rule=rule, weights=weights, shown=shown)

"""One run judged on validation and on test: what is read, frozen, recorded and written, in which order.

    evaluation/frozen.json            what was chosen on validation, before test is read
    evaluation/test_reads.json        each reading of test
    evaluation/SPLIT/members/NAME.csv an ensemble's members
    evaluation/SPLIT/predictions.csv
    evaluation/SPLIT/metrics.json     last: with it the split is judged

All numbers of a split are computed before its files are written, one right after the other, so that a process
that is killed leaves the earlier state or the new one; `metrics.json` names the hashes of the predictions
that it is of, and its own, by which a mixture or a change is noticed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine import backend
from engine import config as configs
from engine.evaluation import frozen, predictions, reads, summary
from engine.evaluation.frozen import Frozen
from engine.evaluation.models import MEMBERS_NAME, Member, Models, hash_file
from engine.evaluation.predictions import Predictions
from engine.input.cache import CacheSettings, default_folder
from engine.training.run_directory import RunDirectory
from records import storage
from records.errors import RunError
from records.manifest import Manifest

if TYPE_CHECKING:
    from engine.evaluation.predictor import Predictor

VALIDATION, TEST = "validation", "test"


class _Read(NamedTuple):
    """What stands in the CSV files of a split, and the bytes of those that are yet to be written."""

    predictions: Predictions
    members: dict[str, np.ndarray]
    sha256: dict[str, str]
    files: dict[str, bytes]


class Judgement:
    """Judges one run; splits that this model was judged on already are not judged again.

    Args:
        directory: of the run.
        models: what it predicts with.
        data_set: what it was trained on.
        draws: of patients, for intervals.
    """

    def __init__(self, directory: RunDirectory, models: Models, data_set: Manifest, draws: int) -> None:
        self._directory, self._models, self._data_set, self._draws = directory, models, data_set, draws
        folder = directory.path / "evaluation"
        self._frozen_path, self._reads_path = folder / frozen.FILE_NAME, folder / reads.FILE_NAME

    def check_test(self, *, reread_test: bool) -> None:
        """Refuse to read test where another model has, also where the record of that was lost.

        Raises:
            RunError: another model of the run has read it, and `reread_test` is off; see `reads.check`.
        """
        reads.check(self._reads_path, self._models.sha256, reread_test=reread_test)
        path = self._directory.evaluation_path(TEST) / summary.FILE_NAME
        if path.is_file() and not reads.read(self._reads_path) and not reread_test:
            raise RunError(
                f"{self._reads_path}: missing, though {path} tells of a reading; put it back from a copy, or "
                "read test again with --reread-test"
            )

    def validation(self) -> dict[str, Any]:
        """Judge validation, and freeze what is chosen on it; return what `metrics.json` holds."""
        chosen = self._frozen()
        if chosen and (known := self._known(VALIDATION, chosen)):
            return known
        read = self._kept(VALIDATION) or self._predict(VALIDATION)
        used = chosen or frozen.choose(
            read.predictions,
            read.members,
            model_sha256=self._models.sha256,
            manifest_sha256=self._data_set.sha256,
        )
        metrics = self._summarise(VALIDATION, read, used)
        if chosen is None:
            frozen.write(self._frozen_path, used)
        return self._write(VALIDATION, read, metrics)

    def test(self, *, reread_test: bool = False) -> dict[str, Any]:
        """Judge test with what validation has frozen; return what `metrics.json` holds.

        Raises:
            RunError: another model of the run has read it, and `reread_test` is off.
        """
        self.check_test(reread_test=reread_test)
        chosen = self._frozen()
        if chosen is None and self._data_set.splits[VALIDATION].images:
            self.validation()
            chosen = self._frozen()
        if reads.read(self._reads_path) and (known := self._known(TEST, chosen)):
            return known
        read = self._kept(TEST)
        entry = {
            "model_sha256": self._models.sha256,
            "manifest_sha256": self._data_set.sha256,
            "frozen_sha256": _hash(self._frozen_path.read_bytes()) if chosen else None,
        }
        # Other choices, judged on predictions that are kept, are a reading as well.
        if read is None or not reads.holds(self._reads_path, entry):
            reads.append(self._reads_path, entry)
        read = read or self._predict(TEST)
        return self._write(TEST, read, self._summarise(TEST, read, chosen))

    def _frozen(self) -> Frozen | None:
        """What was frozen for this very model and data set."""
        chosen = frozen.read(self._frozen_path)
        if chosen is None or chosen.model_sha256 != self._models.sha256:
            return None
        names = [member.name for member in self._models.members] if self._models.is_ensemble else [None]
        if chosen.best_member not in names:
            raise RunError(
                f"{self._frozen_path}: best_member is `{chosen.best_member}`, which is no member; remove it "
                "and evaluate again"
            )
        return chosen if chosen.manifest_sha256 == self._data_set.sha256 else None

    def _known(self, split: str, chosen: Frozen | None) -> dict[str, Any] | None:
        """The metrics that stand there, if they are of this model, these choices and as many draws."""
        metrics = self._metrics(split)
        if metrics is None or self._stored(split, predictions.FILE_NAME, metrics) is None:
            return None
        if not summary.is_sealed(metrics):
            print(f"{split}: {summary.FILE_NAME} was changed; computed again", file=sys.stderr)
            return None
        if metrics["bootstrap"]["draws"] != self._draws or not summary.is_of(metrics, chosen):
            return None
        print(f"{split}: this model was evaluated already; nothing is read", file=sys.stderr)
        return metrics

    def _metrics(self, split: str) -> dict[str, Any] | None:
        """The metrics of this model on a split; None: there are none, or an earlier schema's or model's."""
        path = self._directory.evaluation_path(split) / summary.FILE_NAME
        try:
            metrics = summary.read(path)
        except summary.NotJudgedError:
            return None
        same = all(metrics.get(key) == value for key, value in self._subject(split).items())
        return metrics if same and isinstance(metrics.get("files_sha256"), dict) else None

    def _subject(self, split: str) -> dict[str, Any]:
        return {
            "split": split,
            "split_strategy": self._data_set.split["strategy"],
            "manifest_sha256": self._data_set.sha256,
            "model_sha256": self._models.sha256,
        }

    def _stored(self, split: str, name: str, metrics: dict[str, Any]) -> bytes | None:
        """One file of the predictions that metrics are of; None: it was removed.

        Raises:
            RunError: the file holds others.
        """
        folder = self._directory.evaluation_path(split)
        if not (folder / name).is_file():
            return None
        data = (folder / name).read_bytes()
        if _hash(data) != metrics["files_sha256"].get(name):
            raise RunError(
                f"{folder / name}: not the predictions that {summary.FILE_NAME} is of (SHA-256 differs), "
                f"changed or damaged; remove {folder} and evaluate again"
            )
        return data

    def _kept(self, split: str) -> _Read | None:
        """The predictions of this model that stand there, so that no picture is read again."""
        metrics = self._metrics(split)
        if metrics is None:
            return None
        names = self._file_names()
        stored = {name: data for name in names if (data := self._stored(split, name, metrics)) is not None}
        return self._parsed(split, stored, new=False) if len(stored) == len(names) else None

    def _predict(self, split: str) -> _Read:
        """Predict a split, and read back what the files will hold."""
        if not self._data_set.splits[split].images:
            raise RunError(f"{self._data_set.location}: the {split} split is empty; nothing to judge")
        print(f"predicting the {split} split ...", file=sys.stderr, flush=True)
        found = self._predictor.predict_split(self._data_set, split, cache_settings=self._cache_settings())
        files = {
            name: predictions.to_csv(found.of_member(member.name), member.path)
            for name, member in self._file_names().items()
            if member
        }
        files[predictions.FILE_NAME] = predictions.to_csv(found.predictions, self._directory.path)
        return self._parsed(split, files, new=True)

    def _file_names(self) -> dict[str, Member | None]:
        """The CSV files of a split and the member that each is of; None: of all together, which is last."""
        members = self._models.members if self._models.is_ensemble else ()
        names: dict[str, Member | None] = {f"{MEMBERS_NAME}/{member.name}.csv": member for member in members}
        return names | {predictions.FILE_NAME: None}

    def _parsed(self, split: str, files: dict[str, bytes], *, new: bool) -> _Read:
        folder = self._directory.evaluation_path(split)
        parsed = {name: predictions.from_csv(data, folder / name) for name, data in files.items()}
        members = {member.name: parsed[name].logits for name, member in self._file_names().items() if member}
        hashes = {name: _hash(data) for name, data in files.items()}
        return _Read(parsed[predictions.FILE_NAME], members, hashes, files if new else {})

    @cached_property
    def _predictor(self) -> Predictor:
        backend.load()
        from engine.evaluation.predictor import Predictor

        predictor = Predictor(self._models)
        changed = [each for each in self._models.members if hash_file(each.path) != each.sha256]
        if changed:
            raise RunError(
                f"{changed[0].path}: changed while it was loaded; its run is being trained: wait until that "
                "has ended"
            )
        return predictor

    def _cache_settings(self) -> CacheSettings | None:
        path = self._directory.config_path
        if not path.is_file():
            return None
        return CacheSettings(default_folder(), configs.load(str(path)).input.cache_bytes)

    def _summarise(self, split: str, read: _Read, chosen: Frozen | None) -> dict[str, Any]:
        validation = self._data_set.splits[VALIDATION] if split == TEST else None
        numbers = summary.summarise(
            read.predictions, read.members, chosen, draws=self._draws, validation=validation
        )
        hashes = {"predictions_sha256": read.sha256[predictions.FILE_NAME], "files_sha256": read.sha256}
        named = {"schema": summary.SCHEMA, **self._subject(split), **hashes}
        return summary.sealed(named | numbers | {"test_reads": len(reads.read(self._reads_path))})

    def _write(self, split: str, read: _Read, metrics: dict[str, Any]) -> dict[str, Any]:
        folder = self._directory.evaluation_path(split)
        text = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
        for name, data in (read.files | {summary.FILE_NAME: text.encode()}).items():
            storage.write_bytes(str(folder / name), data)
        return metrics


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def paths(directory: RunDirectory, split: str) -> tuple[Path, Path]:
    """Return where the predictions and the metrics of a split stand."""
    folder = directory.evaluation_path(split)
    return folder / predictions.FILE_NAME, folder / summary.FILE_NAME

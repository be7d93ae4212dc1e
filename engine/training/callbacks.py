"""What decides on a run, or is kept of it, beside its steps: finite losses, best model, the run's state."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras

from engine.model.save import save_model
from engine.training.progress import say
from engine.training.run_directory import RunDirectory
from records.errors import RunError

Logs = dict[str, Any] | None


class FiniteLoss(keras.callbacks.Callback):
    """Stops the run at the first step whose loss or gradients are not numbers, and names its records.

    Args:
        image_ids: returns the names of a step's records; epoch and step are counted from 0.
    """

    def __init__(self, image_ids: Callable[[int, int], list[str]]) -> None:
        super().__init__()
        self._image_ids = image_ids
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        known = logs or {}
        loss = known.get("loss", 0.0)
        if not (math.isfinite(loss) and known.get("finite", True)):
            what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not a number"
            found = self._image_ids(self._epoch, batch)
            more = f" and {len(found) - 8} more" if len(found) > 8 else ""
            names = ", ".join(found[:8]) + more or "unknown with this reader"
            raise RunError(
                f"{what} at epoch {self._epoch + 1}, step {batch + 1} (records: {names}); "
                "lower optimizer.learning_rate, set optimizer.clip_norm, or set train.precision to float32"
            )


class BestModel(keras.callbacks.Callback):
    """Keeps the model of the best epoch so far, replaced whole, and says so in `run.json`.

    Args:
        directory: of the run.
        kept: the model to save; the one that trains has the augmentation around it.
        monitor: the value in the epoch's log that decides.
        mode: `min` or `max`.
        averaged: the weights to save stand in the model while the block runs.
        copies: name of a further copy of each best model below the run's folder, with fields of the epoch's
            log and `epoch`; empty: none.
    """

    def __init__(
        self,
        directory: RunDirectory,
        kept: keras.Model,
        monitor: str,
        mode: str,
        *,
        averaged: Callable[[], AbstractContextManager[None]],
        copies: str = "",
    ) -> None:
        super().__init__()
        self._directory, self._kept, self._monitor = directory, kept, monitor
        self._averaged, self._copies = averaged, copies
        self._sign = 1.0 if mode == "max" else -1.0
        self._best = -math.inf

    def state(self) -> dict[str, Any]:
        """The best value so far, its sign as in a maximum, and what `run.json` says of it and its model."""
        known = self._directory.read()
        told = {name: value for name, value in known.items() if name.startswith("best_")}
        return {"best": self._best, "told": told, "model_sha256": known.get("model_sha256")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's best value, or from that of a newer model, saved behind the checkpoint.

        The newer one's epoch is trained again, and needn't give the same where operations don't repeat their
        bits; so the model is judged by what `run.json` told of it when it was saved.
        """
        known, saved = self._directory.read(), self._saved_hash()
        forgotten = {name: None for name in known if name.startswith("best_")}
        # Other workers than the one that writes have no model, and nothing told of one.
        if state.get("model_sha256", saved) == saved or not (saved or "model_sha256" in known):
            self._best = state["best"]
            self._directory.update(**(forgotten | state["told"]), model_sha256=saved)
        elif known.get("model_sha256") == saved:
            value = known[f"best_{self._monitor}"]
            self._best = -math.inf if value is None else self._sign * value
        else:
            say(
                f"note: {self._directory.checkpoint_path} isn't the model that the checkpoint knows; the "
                "next epoch's takes its place"
            )
            self._best = -math.inf
            self._directory.update(**forgotten)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        known = logs or {}
        value = self._sign * known.get(self._monitor, math.nan)
        # An undefined value is no better than any; but the first epoch's model is better than none.
        if not (value > self._best or (not math.isfinite(value) and epoch == 0)):
            return
        self._best = value if math.isfinite(value) else -math.inf
        self._save(self._directory.checkpoint_path)
        if self._copies:
            self._copy(self._copies.format(**{**known, "epoch": epoch + 1}))
        best = {f"best_{name}": known.get(name) for name in ("val_macro_auroc", "val_loss")}
        self._directory.update(
            best_epoch=epoch + 1, model_sha256=self._saved_hash(), **{k: _finite(v) for k, v in best.items()}
        )

    def _saved_hash(self) -> str | None:
        path = self._directory.checkpoint_path
        if not path.is_file():
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _save(self, path: Path) -> None:
        scratch = path.with_name(f".{path.stem}.tmp.keras")
        try:
            with self._averaged():
                save_model(self._kept, scratch)
            scratch.replace(path)
        except OSError as error:
            raise RunError(f"{path}: can't be written: {error.strerror or error}") from error
        finally:
            scratch.unlink(missing_ok=True)

    def _copy(self, name: str) -> None:
        path = self._directory.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            # It is replaced and never changed, so that a second name does for a second copy.
            try:
                os.link(self._directory.checkpoint_path, path)
            except OSError:  # a disk that knows no second names
                shutil.copyfile(self._directory.checkpoint_path, path)
        except OSError as error:
            raise RunError(f"{path}: can't be written: {error.strerror or error}") from error


class RunLog(keras.callbacks.Callback):
    """Says in `run.json` how far the run has come, and on the screen what the epoch gave."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self._directory = directory

    def state(self) -> dict[str, Any]:
        """How many epochs are done."""
        return {"epochs_done": self._directory.read()["epochs_done"]}

    def restore(self, state: dict[str, Any]) -> None:
        """Say again what a checkpoint knew."""
        self._directory.update(**state)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = logs or {}
        self._directory.update(epochs_done=epoch + 1)
        rate = logs.get("images_per_s")
        images = "" if rate is None else f"{rate:.0f} images/s, "
        say(
            f"epoch {epoch + 1}: loss {logs.get('loss', math.nan):.4f}, "
            f"val_loss {logs.get('val_loss', math.nan):.4f}, "
            f"val_macro_auroc {logs.get('val_macro_auroc', math.nan):.4f}, "
            f"{images}{logs.get('seconds', math.nan):.0f} s"
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

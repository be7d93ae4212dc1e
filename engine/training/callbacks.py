"""What happens beside the steps: the progress line, the CSV log, the best checkpoint, the run's state."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.training.run_directory import RunDirectory
from records import storage
from records.errors import RunError

COLUMNS = (
    "epoch",
    "time",
    "seconds",
    "images_per_s",
    "learning_rate",
    "loss",
    "val_loss",
    "val_macro_auroc",
    "val_macro_auprc",
    "val_recall",
    "val_specificity",
    "val_ppv",
    "val_npv",
    "val_f1",
    "val_hamming_loss",
)
# Where no terminal is, a line now and then says as much as the bar.
_LINE_EVERY_S = 10.0

Logs = dict[str, Any] | None


class FiniteLoss(keras.callbacks.Callback):
    """Stops the run at the first step whose loss is not a number, and names its records.

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
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            names = ", ".join(self._image_ids(self._epoch, batch)) or "unknown with this reader"
            raise RunError(
                f"the loss is {loss} at epoch {self._epoch + 1}, step {batch + 1} (records: {names}); "
                "lower train.learning_rate or set train.precision to float32"
            )


class ProgressLine(keras.callbacks.Callback):
    """A bar with steps, images/s, loss and time left; plain lines where no terminal is.

    A context manager, too, so that the terminal is left as it was when a run ends with an error.
    """

    def __init__(self, epochs: int, steps: int, batch_records: int) -> None:
        super().__init__()
        self._epochs, self._steps, self._batch_records = epochs, steps, batch_records
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._epoch = 0
        self._epoch_start_s = self._next_line_s = 0.0
        self._task: Any = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._epoch = epoch + 1
        self._epoch_start_s = time.monotonic()
        self._next_line_s = self._epoch_start_s + _LINE_EVERY_S
        if epoch == 0:
            _say("building the training step ...")
        self._bar.start()
        self._task = self._bar.add_task(f"epoch {self._epoch}/{self._epochs}", total=self._steps, rate="")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now_s = time.monotonic()
        rate = f"{(batch + 1) * self._batch_records / (now_s - self._epoch_start_s):.0f} images/s"
        rate += f", loss {(logs or {}).get('loss', math.nan):.4f}"
        self._bar.update(self._task, completed=batch + 1, rate=rate)
        if self._bar.disable and now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            _say(f"epoch {self._epoch}/{self._epochs}: step {batch + 1} of {self._steps}, {rate}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._bar.remove_task(self._task)
        self._bar.stop()
        if logs is not None:
            logs["seconds"] = time.monotonic() - self._epoch_start_s
            logs["images_per_s"] = self._steps * self._batch_records / logs["seconds"]


class BetweenSteps(keras.callbacks.Callback):
    """Calls a function after each step; what it raises ends the run."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._check()


class BestCheckpoint(keras.callbacks.Callback):
    """Keeps the model of the best epoch so far, replaced whole, and says so in `run.json`.

    Args:
        directory: of the run.
        kept: the model to save; the one that trains has the augmentation around it.
        monitor: the value in the epoch's log that decides.
        mode: `min` or `max`.
    """

    def __init__(self, directory: RunDirectory, kept: keras.Model, monitor: str, mode: str) -> None:
        super().__init__()
        self._directory, self._kept, self._monitor = directory, kept, monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self._best = -math.inf

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = self._sign * (logs or {}).get(self._monitor, math.nan)
        # An undefined value is no better than any; but the first epoch's model is better than none.
        if not (value > self._best or (not math.isfinite(value) and epoch == 0)):
            return
        self._best = value if math.isfinite(value) else -math.inf
        self._save(self._directory.checkpoint_path)
        best = {f"best_{name}": (logs or {}).get(name) for name in ("val_macro_auroc", "val_loss")}
        self._directory.update(best_epoch=epoch + 1, **{k: _finite(v) for k, v in best.items()})

    def _save(self, path: Path) -> None:
        scratch = path.with_name(f".{path.stem}.tmp.keras")
        try:
            self._kept.save(scratch)
            scratch.replace(path)
        except OSError as error:
            raise RunError(f"{path}: can't be written: {error.strerror or error}") from error
        finally:
            scratch.unlink(missing_ok=True)


class RunLog(keras.callbacks.Callback):
    """Says in `run.json` how far the run has come, and on the screen what the epoch gave."""

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self._directory = directory

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = logs or {}
        self._directory.update(epochs_done=epoch + 1)
        _say(
            f"epoch {epoch + 1}: loss {logs.get('loss', math.nan):.4f}, "
            f"val_loss {logs.get('val_loss', math.nan):.4f}, "
            f"val_macro_auroc {logs.get('val_macro_auroc', math.nan):.4f}, "
            f"{logs.get('images_per_s', math.nan):.0f} images/s, {logs.get('seconds', math.nan):.0f} s"
        )


class CsvLog(keras.callbacks.Callback):
    """One row an epoch in `history.csv`, stamped with the time; the file is replaced whole."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = {name: (logs or {}).get(name, "") for name in COLUMNS}
        row["epoch"] = epoch + 1
        row["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _rounded(value) for key, value in row.items()} for row in self._rows)
        storage.write_bytes(str(self._path), text.getvalue().encode())


def _say(line: str) -> None:
    # Whoever read our lines may have gone, as `head` does; the run goes on.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rounded(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value

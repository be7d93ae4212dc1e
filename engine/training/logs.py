"""What a run writes down beside its checkpoints: tables of epochs, findings and steps, and events."""

from __future__ import annotations

import csv
import io
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from engine.metrics import counts
from records import storage
from records.errors import RunError

COLUMNS = (
    "epoch",
    "time",
    "seconds",
    "images_per_s",
    "input_stall",
    "learning_rate",
    "loss_scale",
    "skipped_steps",
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
    "val_hamming_loss_all_negative",
)
FINDING_COLUMNS = ("epoch", "finding", "positives", "auroc", "auprc", *counts.NAMES)
STEP_COLUMNS = ("epoch", "step", "loss", "learning_rate")

_ROWS_AT_ONCE, _FLUSH_EVERY_S = 100, 5.0

Logs = dict[str, Any] | None


class _Table(keras.callbacks.Callback):
    """Rows that grow with each epoch in a CSV file that is replaced whole."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__()
        self._path, self._columns = path, columns
        self._rows: list[dict[str, Any]] = []

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": self._rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on behind the rows of a checkpoint."""
        self._rows = state["rows"]
        if self._rows:
            self._write()

    def _add(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows += [{name: _rounded(row.get(name)) for name in self._columns} for row in rows]
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        storage.write_bytes(str(self._path), text.getvalue().encode())


class CsvLog(_Table):
    """One row an epoch, stamped with the time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, COLUMNS)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._add([{**(logs or {}), "epoch": epoch + 1, "time": now}])


class FindingsLog(_Table):
    """One row for each finding in each epoch; `nan` where it isn't defined, as without positives."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FINDING_COLUMNS)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._add([{"epoch": epoch + 1, **row} for row in (logs or {}).get("findings", ())])


class StepLog(keras.callbacks.Callback):
    """One row a step, with the loss to its last bit; what a resumed run repeats is cut off first."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._epoch = 0
        self._rows: list[str] = []
        self._next_flush_s = 0.0
        self._size_bytes = 0

    def state(self) -> dict[str, Any]:
        """The size of the file that the steps so far fill."""
        self._flush()
        return {"size_bytes": self._size_bytes}

    def restore(self, state: dict[str, Any]) -> None:
        """Cut off what lies behind a checkpoint."""
        self._size_bytes = min(state["size_bytes"], self._path.stat().st_size if self._path.exists() else 0)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        known = logs or {}
        numbers = f"{known['loss']!r},{known['learning_rate']:.7g}"
        self._rows.append(f"{self._epoch + 1},{batch + 1},{numbers}\n")
        if len(self._rows) >= _ROWS_AT_ONCE or time.monotonic() > self._next_flush_s:
            self._flush()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._flush()

    def on_train_end(self, logs: Logs = None) -> None:  # noqa: ARG002
        self._flush()

    def _flush(self) -> None:
        try:
            self._append()
        except OSError as error:
            raise RunError(
                f"{self._path}: can't be written: {(error.strerror or str(error)).lower()}"
            ) from error
        self._rows.clear()
        self._next_flush_s = time.monotonic() + _FLUSH_EVERY_S

    def _append(self) -> None:
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.truncate(self._size_bytes)
            file.seek(self._size_bytes)
            if not self._size_bytes:
                file.write((",".join(STEP_COLUMNS) + "\n").encode())
            file.write("".join(self._rows).encode())
            self._size_bytes = file.tell()


class TensorBoardLog(keras.callbacks.Callback):
    """Scalars for TensorBoard: those of an epoch, and the loss of every so many steps.

    TensorBoard's own package, which `tf.summary` needs, is not: its files are TFRecords of `Event` messages.

    Args:
        folder: of the events; a resumed run adds a file whose steps stand in the place of the repeated ones.
        steps: of an epoch.
        every_steps: between two losses.
    """

    def __init__(self, folder: Path, steps: int, every_steps: int = 20) -> None:
        super().__init__()
        self._folder, self._steps, self._every_steps = folder, steps, every_steps
        self._epoch = 0
        self._writer: tf.io.TFRecordWriter | None = None
        self._begun = False

    def on_train_begin(self, logs: Logs = None) -> None:  # noqa: ARG002
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._writer = tf.io.TFRecordWriter(str(self._folder / name))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:  # noqa: ARG002
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        step = self._epoch * self._steps + batch
        if step % self._every_steps == 0:
            self._write_scalars(step, {"step_loss": (logs or {})["loss"]})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        numbers = {name: (logs or {}).get(name) for name in COLUMNS}
        scalars = {name: value for name, value in numbers.items() if isinstance(value, (int, float))}
        self._write_scalars((epoch + 1) * self._steps, scalars)

    def on_train_end(self, logs: Logs = None) -> None:  # noqa: ARG002
        if self._writer:
            self._writer.close()

    def _write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        values = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        if not self._begun:
            # TensorBoard then forgets what a run before wrote from this step on.
            start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
            self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, session_log=start))
            self._begun = True
        summary = tf.compat.v1.Summary(value=values)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: tf.compat.v1.Event) -> None:
        if self._writer:
            try:
                self._writer.write(event.SerializeToString())
                self._writer.flush()
            except tf.errors.OpError as error:
                raise RunError(f"{self._folder}: can't be written: {error.message}") from error


def _rounded(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else value

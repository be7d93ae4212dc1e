"""What a run can go on from: section `checkpoint`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import at_least
from records.errors import ConfigError


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of a run is written, and where.

    It is written at the end of each epoch and when the run is asked to leave, too.

    Attributes:
        every_steps: between two checkpoints within an epoch; 0: none there.
        keep_last: that many are kept.
        location: `s3://bucket/prefix` where config, tables, best model and checkpoints are copied to with
            each checkpoint, and from where `--resume auto` gets them back on another machine; empty: nowhere.
        best_copies: names of further copies of each best model below the run directory, such as
            `model_checkpoints/weights.{epoch:04d}-{val_loss:.5f}.keras`; empty: only `best.keras`.
    """

    every_steps: int
    keep_last: int
    location: str
    best_copies: str

    def __post_init__(self) -> None:
        at_least("checkpoint.every_steps", self.every_steps, 0)
        at_least("checkpoint.keep_last", self.keep_last, 1)
        if self.location and not self.location.startswith("s3://"):
            raise ConfigError(
                f"checkpoint.location is `{self.location}`; expected s3://bucket/prefix, or an empty text"
            )
        self._check_copies()

    def _check_copies(self) -> None:
        name = self.best_copies
        if not name:
            return
        try:
            example = name.format(epoch=1, val_loss=0.5, val_macro_auroc=0.5)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"checkpoint.best_copies is `{name}`; expected fields of epoch, val_loss and val_macro_auroc "
                f"alone ({error})"
            ) from None
        if not example.endswith(".keras") or example.startswith("/") or ".." in example.split("/"):
            raise ConfigError(
                f"checkpoint.best_copies is `{name}`; expected a path below the run directory that ends in "
                "`.keras`"
            )

"""Another number of epochs for a run that has begun: where it ends as if that had been asked for at once."""

from __future__ import annotations

from engine import config as configs
from engine.config.schedule import CosineConfig
from engine.training import checkpoints, run_directory
from engine.training.run_directory import RunDirectory
from records.errors import RunError
from records.manifest import Manifest


def differences(directory: RunDirectory, config: configs.Config, data_set: Manifest) -> list[str]:
    """Say why the run here can't be gone on with as this config and data set ask; empty: it can.

    Another number of epochs is no reason where they aren't all done yet and no rate depends on it.
    """
    told = directory.read()
    found, there, wanted = directory.differences(config, data_set), told.get("epochs"), config.train.epochs
    if len(found) != 1 or not isinstance(there, int) or there == wanted:
        return found
    if not found[0].startswith("train.epochs "):
        return found
    if isinstance(config.schedule, CosineConfig):
        return [f"{found[0]}, on which the rates of schedule.name `cosine` depend"]
    if wanted <= (done := told.get("epochs_done", 0)):
        return [f"{found[0]}; expected more than the {done} that are done"]
    return []


def is_finished(directory: RunDirectory, config: configs.Config, data_set: Manifest) -> bool:
    """Tell whether a run here is this one, and done with its epochs, or stopped early for want of progress.

    Raises:
        RunError: it is to go on to more epochs, and no checkpoint is left.
    """
    if not (directory.path / run_directory.RUN_NAME).exists() or differences(directory, config, data_set):
        return False
    known = directory.read()
    if known["state"] != run_directory.FINISHED:
        return False
    if known.get("epochs") == config.train.epochs:
        return True
    last = checkpoints.newest(directory.checkpoints_path)
    if last is None:
        raise RunError(
            f"{directory.checkpoints_path}: no checkpoint is left to go on from to {config.train.epochs} "
            "epochs; choose another --run-dir, or begin anew with --overwrite"
        )
    # Patience counts epochs, whatever their number: with more of them it would have stopped here, too.
    return bool(last.state["stopped"])

"""`engine train`: config, manifest and run directory are checked first, then the loop is started."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from engine import backend
from engine import config as configs
from engine.training import run_directory
from engine.training.run_directory import RunDirectory
from records import manifest
from records.errors import CxrError, RunError


def run(config_path: str, data: str, run_dir: str, overrides: Sequence[str], *, overwrite: bool) -> int:
    """Train as the config says and leave a run directory.

    Args:
        config_path: of the YAML file.
        data: location of the manifest.
        run_dir: folder of the run.
        overrides: `section.key=value` each.
        overwrite: replace what the folder holds.

    Returns:
        0, or 130 when interrupted.

    Raises:
        CxrError: the config, the data set or the run directory is at fault.
    """
    config = configs.load(config_path, overrides)
    data_set = manifest.load(data)
    manifest.check_files(data_set)
    _check_splits(data_set)
    directory = RunDirectory(run_dir)
    if not overwrite and _is_done(directory, config, data_set):
        return 0
    directory.start(config, data_set)
    return _fit(directory, config, data_set)


def _fit(directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest) -> int:
    print("starting TensorFlow ...", file=sys.stderr, flush=True)
    backend.load()
    from engine.training import fit

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        fit.fit(directory, config, data_set)
    except KeyboardInterrupt:
        directory.update(state=run_directory.INTERRUPTED)
        print(f"{directory.path}: {run_directory.summary(directory.read())}", file=sys.stderr)
        return 130
    except CxrError as error:
        directory.update(state=run_directory.FAILED, error=str(error))
        raise
    except Exception as error:
        directory.update(state=run_directory.FAILED, error=repr(error))
        raise
    directory.update(state=run_directory.FINISHED)
    print(f"{directory.path}: {run_directory.summary(directory.read())}")
    return 0


def _interrupt(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal's form
    raise KeyboardInterrupt


def _check_splits(data_set: manifest.Manifest) -> None:
    for split in ("train", "validation"):
        if not data_set.splits[split].images:
            raise RunError(
                f"{data_set.location}: the {split} split is empty; training needs both: "
                "convert with other fractions or more images"
            )


def _is_done(directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest) -> bool:
    """Tell whether this very run is finished; refuse a directory that holds anything else."""
    if not directory.path.is_dir() or not any(directory.path.iterdir()):
        return False
    known = directory.read()
    same = directory.describes(config, data_set)
    if same and known["state"] == run_directory.FINISHED:
        print(f"{directory.path}: {run_directory.summary(known)}; nothing to do")
        return True
    what = f"a run ({run_directory.summary(known)})" if same else "a run with another config or data set"
    raise RunError(
        f"{directory.path}: holds {what}; choose another --run-dir, or replace it with --overwrite"
    )

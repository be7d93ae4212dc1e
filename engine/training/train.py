"""`engine train`: config, manifest and run directory are checked first, then the loop is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine import backend
from engine import config as configs
from engine.input.cache import default_folder
from engine.training import run_directory
from engine.training.interrupts import EXIT_CODE, Interrupts
from engine.training.run_directory import RunDirectory
from records import manifest, storage
from records.errors import ConfigError, CxrError, RunError


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
    _check_splits(data_set, config)
    _check_model(data_set, config)
    if storage.is_remote(data_set.location):
        storage.make_folder(str(default_folder()))
    directory = RunDirectory(run_dir)
    with directory.locked():
        if not overwrite and _is_done(directory, config, data_set):
            return 0
        directory.start(config, data_set)
        return _fit(directory, config, data_set)


def _fit(directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest) -> int:
    started = False

    def start() -> None:
        nonlocal started
        started = True
        directory.commit()

    def leave() -> str:
        if started:
            directory.update(state=run_directory.INTERRUPTED)
            return f"{directory.path}: {run_directory.summary(directory, running=False)}"
        directory.roll_back()
        directory.remove_if_unused()
        return "interrupted"

    try:
        with Interrupts(leave) as interrupts:
            print("starting TensorFlow ...", file=sys.stderr, flush=True)
            backend.load()
            from engine.training import fit

            fit.fit(directory, config, data_set, on_start=start, check=interrupts.check)
    except KeyboardInterrupt:
        print(leave(), file=sys.stderr)
        return EXIT_CODE
    except BaseException as error:
        if not started:
            directory.roll_back()
            raise
        text = str(error) if isinstance(error, CxrError) else repr(error)
        directory.update(state=run_directory.FAILED, error=text)
        raise
    directory.update(state=run_directory.FINISHED)
    print(f"{directory.path}: {run_directory.summary(directory)}")
    return 0


def _check_splits(data_set: manifest.Manifest, config: configs.Config) -> None:
    for name in ("train", "validation"):
        if not data_set.splits[name].images:
            raise RunError(
                f"{data_set.location}: the {name} split is empty; training needs both: "
                "convert with other fractions or more images"
            )
    split = data_set.splits["validation"]
    undefined = [name for name, positives in split.positives.items() if not 0 < positives < split.images]
    if len(undefined) == len(split.positives) and config.train.monitor == "val_macro_auroc":
        raise RunError(
            f"{data_set.location}: no finding has both positive and negative validation images, so "
            "val_macro_auroc is not defined; use --set train.monitor=val_loss"
        )
    if undefined:
        print(
            f"note: no AUROC in validation for {', '.join(undefined)}: all or none have it", file=sys.stderr
        )


def _check_model(data_set: manifest.Manifest, config: configs.Config) -> None:
    """Check what can be checked of the model before TensorFlow is started."""
    side_px, stored_px = config.model.image_side_px, data_set.image["side_px"]
    if side_px > stored_px:
        raise ConfigError(f"model.image_side_px is {side_px}; the data set stores {stored_px} pixels a side")
    if config.model.normalisation == "data_set" and not data_set.statistics["deviation"] > 0:
        raise ConfigError(
            f"model.normalisation is data_set, but the training pictures of {data_set.location} all have the "
            "same grey; use imagenet"
        )
    weights = config.model.weights
    if weights not in ("none", "imagenet") and not Path(weights).is_file():
        raise ConfigError(f"model.weights is `{weights}`; expected none, imagenet or the path of a file")


def _is_done(directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest) -> bool:
    """Tell whether this very run is finished; refuse a directory that holds anything else."""
    if not directory.entries():
        return False
    known = directory.read()
    same = directory.describes(config, data_set)
    if same and known["state"] == run_directory.FINISHED:
        print(f"{directory.path}: {run_directory.summary(directory, running=False)}; nothing to do")
        return True
    what = (
        f"a run ({run_directory.summary(directory, running=False)})"
        if same
        else "a run with another config or data set"
    )
    raise RunError(
        f"{directory.path}: holds {what}; choose another --run-dir, or replace it with --overwrite"
    )

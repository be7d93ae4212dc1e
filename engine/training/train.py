"""`engine train`: config, manifest and run directory are checked first, then the loop is started."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import backend
from engine import config as configs
from engine.input.cache import default_folder
from engine.training import extension, mirror, parent, run_directory, spot
from engine.training.cluster import this_worker
from engine.training.interrupts import GOES_ON_CODE, Interrupts
from engine.training.run_directory import RunDirectory
from records import manifest, storage
from records.errors import ConfigError, CxrError, RunError, without_credentials


def run(
    config_path: str,
    data: str,
    run_dir: str,
    overrides: Sequence[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> int:
    """Train as the config says and leave a run directory.

    Args:
        config_path: of the YAML file.
        data: location of the manifest.
        run_dir: folder of the run.
        overrides: `section.key=value` each.
        overwrite: replace what the folder holds.
        resume: go on with the run that the folder or the config's bucket holds; begin it if there is none.

    Returns:
        0; 130 when interrupted; 75 when the machine goes down and the run is to be gone on with elsewhere.

    Raises:
        CxrError: the config, the data set or the run directory is at fault.
    """
    if storage.is_remote(run_dir):
        raise ConfigError(
            f"--run-dir is {run_dir}; expected a folder, from which "
            f"--set checkpoint.location={run_dir} copies the run there"
        )
    config, data_set = checked(config_path, data, overrides)
    if storage.is_remote(data_set.location):
        storage.make_folder(str(default_folder()))
    if this_worker().number:
        return _run_beside(run_dir, config, data_set, resume=resume, overwrite=overwrite)
    directory = RunDirectory(run_dir)
    with directory.locked():
        if resume and config.checkpoint.location and _may_be_replaced(directory, config, data_set):
            mirror.fetch_newer(config.checkpoint.location, directory.path)
        resume = resume and bool(directory.entries())
        if not overwrite and _is_done(directory, config, data_set, resume=resume):
            _copy_rest(directory, config, resume=resume)
            return 0
        mirror.check_place(config.checkpoint.location, directory, overwrite=overwrite)
        if resume:
            directory.resume(config)
        else:
            directory.start(config, data_set)
        return _fit(directory, config, data_set, resume_from=directory.checkpoints_path if resume else None)


def checked(
    config_path: str, data: str, overrides: Sequence[str]
) -> tuple[configs.Config, manifest.Manifest]:
    """Read a config and a data set, and check what can be checked of both before TensorFlow is started.

    Raises:
        CxrError: one of them is at fault, or they don't fit each other.
    """
    config = configs.load(config_path, overrides)
    data_set = manifest.load(data)
    manifest.check_files(data_set)
    _check_splits(data_set, config)
    _check_model(data_set, config)
    return config, data_set


def _run_beside(
    run_dir: str, config: configs.Config, data_set: manifest.Manifest, *, resume: bool, overwrite: bool
) -> int:
    """Train as one of the workers that leave nothing, in a folder that goes when they end."""
    written = RunDirectory(run_dir)
    if not overwrite and extension.is_finished(written, config, data_set):
        return 0
    with tempfile.TemporaryDirectory(prefix="cxr-worker-") as folder:
        directory = RunDirectory(str(Path(folder) / "run"))
        shared = written.checkpoints_path
        with directory.locked():
            if resume and not shared.is_dir() and config.checkpoint.location:
                brought = RunDirectory(str(Path(folder) / "brought"))
                storage.make_folder(str(brought.path))
                mirror.fetch(config.checkpoint.location, brought.path)
                shared = brought.checkpoints_path
            directory.start(config, data_set)
            return _fit(directory, config, data_set, resume_from=shared if resume else None)


def _may_be_replaced(directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest) -> bool:
    """Tell whether a folder holds no run, or an older state of this one, and not another run."""
    is_run = (directory.path / run_directory.RUN_NAME).exists()
    return not is_run or not extension.differences(directory, config, data_set)


def _fit(
    directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest, *, resume_from: Path | None
) -> int:
    # A run that is gone on with has begun: what stands in the folder stays, whatever comes.
    started = resume_from is not None
    copied = _mirror(directory, config)

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
            _watched(
                interrupts,
                directory,
                config,
                data_set,
                on_start=start,
                resume_from=resume_from,
                after_checkpoint=copied.keep_up if copied else None,
            )
    except KeyboardInterrupt:
        print(f"{leave()}; go on with --resume auto", file=sys.stderr)
        if copied and started:
            copied.finish()
        # Where another worker was asked, this one goes on with the others.
        return interrupts.exit_code if interrupts.asked else GOES_ON_CODE
    except BaseException as error:
        if not started:
            directory.roll_back()
            raise
        text = str(error) if isinstance(error, CxrError) else without_credentials(repr(error))
        directory.update(state=run_directory.FAILED, error=text)
        raise
    directory.update(state=run_directory.FINISHED)
    print(f"{directory.path}: {run_directory.summary(directory)}")
    if copied:
        copied.finish()
    return 0


def _watched(interrupts: Interrupts, *run: Any, **more: Any) -> None:
    """Train, and hear of a spot notice and of the parent's end meanwhile; the rest is `fit.fit`'s."""
    print("starting TensorFlow ...", file=sys.stderr, flush=True)
    backend.load()
    from engine.training import fit

    with spot.Watch(interrupts.ask), parent.Watch(interrupts.ask):
        fit.fit(*run, check=interrupts.check, **more)


def _mirror(directory: RunDirectory, config: configs.Config) -> mirror.Mirror | None:
    """What copies the run to a bucket; None: nothing does, or another worker."""
    settings = config.checkpoint
    if not settings.location or this_worker().number:
        return None
    return mirror.Mirror(directory, settings.location, settings.keep_last)


def _copy_rest(directory: RunDirectory, config: configs.Config, *, resume: bool) -> None:
    """Send a finished run to its bucket, if it couldn't be sent when it ended and is to be gone on with."""
    copied = _mirror(directory, config) if resume else None
    if copied and not mirror.is_copied(config.checkpoint.location, directory):
        mirror.check_place(config.checkpoint.location, directory, overwrite=False)
        copied.finish()
        print(f"{directory.path}: copied to {config.checkpoint.location}")


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


def _is_done(
    directory: RunDirectory, config: configs.Config, data_set: manifest.Manifest, *, resume: bool
) -> bool:
    """Tell whether this very run is finished; refuse a directory that holds anything else to go on with."""
    if not (entries := directory.entries()):
        return False
    if not (directory.path / run_directory.RUN_NAME).exists():
        raise RunError(
            f"{directory.path}: holds {len(entries)} files and no run, such as {entries[0].name}; choose an "
            "empty or a new folder as --run-dir"
        )
    others = extension.differences(directory, config, data_set)
    if extension.is_finished(directory, config, data_set):
        told = run_directory.summary(directory, running=False)
        early = "" if directory.read().get("epochs") == config.train.epochs else " by early stopping"
        print(f"{directory.path}: {told}{early}; nothing to do")
        return True
    if not others and resume:
        return False
    shown = "; ".join(others[:3]) + (f"; and {len(others) - 3} more" if len(others) > 3 else "")
    what = (
        f"another run ({shown})"
        if others
        else f"a run ({run_directory.summary(directory, running=False)}); go on with it by --resume auto"
    )
    raise RunError(
        f"{directory.path}: holds {what}; choose another --run-dir, or replace it with --overwrite"
    )

"""The run directory of an ensemble or a soup: written beside its place, and put there when it is whole.

What stands there is replaced only if it is an ensemble or a soup, never a training, and the record of who has
read the test split outlives it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.ensemble.members import Member
from engine.evaluation import lock, reads
from engine.evaluation.models import ENSEMBLE_NAME, MEMBERS_NAME, hash_file
from engine.training import run_directory
from engine.training.run_directory import CHECKPOINT_NAME, RUN_NAME, RunDirectory
from records import storage
from records.errors import ConfigError, RunError
from records.manifest import Manifest

ENSEMBLE, SOUP = "ensemble", "soup"
COPIED = ("best.keras", "config.yaml", RUN_NAME, "history.csv")


def check_place(output: Path, members: Sequence[Member]) -> None:
    """Check that an ensemble written to `output` leaves its members alone.

    Raises:
        ConfigError: the folder is a member's, lies inside one, or holds one; or is remote.
    """
    if storage.is_remote(str(output)):
        raise ConfigError(f"--output is {output}; expected a folder")
    place = output.resolve()
    for member in members:
        run_dir = member.run_dir.resolve()
        if place == run_dir or run_dir in place.parents:
            raise ConfigError(f"--output {output} lies in the member {member.run_dir}; choose another folder")
        if place in run_dir.parents and (place / RUN_NAME).exists():
            raise ConfigError(f"the member {member.run_dir} lies in --output {output}; choose another folder")


def is_done(output: Path, request: dict[str, Any], *, overwrite: bool) -> bool:
    """Tell whether this very request stands there already.

    What was changed or damaged since is made again.

    Raises:
        ConfigError: there is a file in its place.
        RunError: something else stands there, and it isn't to be replaced, or can't be.
    """
    _put_back(output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; choose another folder")
    directory = RunDirectory(str(output))
    if not (entries := directory.entries()):
        return False
    if not (output / RUN_NAME).is_file():
        raise RunError(
            f"{output}: holds no ensemble but other files, such as {entries[0].name}; choose an empty or a "
            "new folder as --output"
        )
    known = directory.read()
    if known.get("kind") not in (ENSEMBLE, SOUP):
        raise RunError(f"{output}: holds a training run; choose another --output")
    if known.get("request") == request:
        changed = _first_changed(output, known)
        if changed:
            print(f"{output / changed}: changed or damaged; all is made again", file=sys.stderr)
        return not changed
    if not overwrite:
        raise RunError(
            f"{output}: holds another {known['kind']} ({_difference(known, request)}); choose another "
            "--output, or replace it with --overwrite"
        )
    return False


@contextlib.contextmanager
def put_in_place(output: Path) -> Iterator[Path]:
    """Hand out an empty folder that takes the place of `output` when the block ends well, and goes if not.

    Raises:
        RunError: another process is making the same, or is judging what stands in its place.
    """
    place = output.resolve()
    made = RunDirectory(str(place.with_name(f".{place.name}.making")))
    if made.is_running():
        raise RunError(f"{output}: another process is making it; wait for it, or choose another --output")
    with made.locked():
        for entry in made.entries():  # of a process that was killed
            _remove(entry)
        try:
            yield made.path
            _swap(made.path, place)
            # Not before: another process would take the folder, without its lock, for one that was left.
            (place / run_directory.LOCK_NAME).unlink(missing_ok=True)
        finally:
            shutil.rmtree(made.path, ignore_errors=True)


def copy_member(member: Member, folder: Path) -> None:
    """Copy what is worth keeping of a member, but for its checkpoints and logs."""
    for name in COPIED:
        if (source := member.run_dir / name).is_file():
            storage.write_bytes(str(folder / name), source.read_bytes())


def write_note(folder: Path, data_set: Manifest, request: dict[str, Any], **more: Any) -> None:
    """Write `run.json`, which makes the folder a run directory.

    Args:
        folder: of the ensemble or soup.
        data_set: of its members.
        request: what was asked for, by which it is recognised; names the kind.
        more: further keys.
    """
    values = {
        "state": run_directory.FINISHED,
        "kind": request["kind"],
        "command": run_directory.command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "manifest": {
            "location": run_directory.absolute(data_set.location),
            "sha256": data_set.sha256,
            "image": data_set.image,
        },
        "git_commit": run_directory.git_commit(),
        "versions": run_directory.versions(),
        "request": request,
        "files": {name: hash_file(folder / name) for name in _deciding(folder)},
        **more,
    }
    write_json(folder / RUN_NAME, values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON; the file appears whole or not at all."""
    storage.write_bytes(str(path), (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def _deciding(folder: Path) -> list[str]:
    """Names of the files that decide on what an ensemble or a soup predicts."""
    own = [folder / ENSEMBLE_NAME, folder / CHECKPOINT_NAME]
    paths = [*own, *folder.glob(f"{MEMBERS_NAME}/*/{CHECKPOINT_NAME}")]
    return sorted(str(path.relative_to(folder)) for path in paths if path.is_file())


def _first_changed(folder: Path, known: dict[str, Any]) -> str | None:
    """Name a file that isn't what `write_note` has noted; None: all are."""
    files = known.get("files")
    if not isinstance(files, dict) or not files:
        return RUN_NAME
    present = {name: hash_file(folder / name) for name in _deciding(folder)}
    return next((name for name, sha256 in files.items() if present.get(name) != sha256), None)


def _difference(known: dict[str, Any], request: dict[str, Any]) -> str:
    told = known.get("request") or {}
    names = [name for name in request if told.get(name) != request[name]]
    return "other " + ", ".join(names) if names else "of another release"


def _swap(made: Path, place: Path) -> None:
    """Put `made` at `place`; two renames, between which `_put_back` helps."""
    replaced = _replaced(place)
    shutil.rmtree(replaced, ignore_errors=True)
    if place.exists():
        # An evaluation that is going on would write its record of test into what is put aside.
        with lock.held(place):
            _keep_reads(place, made)
            place.rename(replaced)
    made.rename(place)
    shutil.rmtree(replaced, ignore_errors=True)


def _keep_reads(place: Path, made: Path) -> None:
    kept = place / "evaluation" / reads.FILE_NAME
    if kept.is_file():
        storage.write_bytes(str(made / "evaluation" / reads.FILE_NAME), kept.read_bytes())


def _put_back(output: Path) -> None:
    """Undo the first rename of a process that was killed before the second."""
    place = output.resolve()
    if not place.exists() and _replaced(place).is_dir():
        _replaced(place).rename(place)


def _replaced(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()

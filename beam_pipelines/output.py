"""The output of a conversion: whose it is, who may write it, and what is cleared away at the end.

A finished data set is known by its manifest, an unfinished one by `.work/request.json`; both name the request
that they answer. Anything else in the folder is somebody's work and is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from beam_pipelines import archives, notes, plan
from beam_pipelines.finish import check_quarantined
from records import manifest, storage
from records.errors import ImageError, ManifestError, ShardError
from records.splits import SPLITS

REQUEST_NAME = f"{notes.WORK_FOLDER}/request.json"
LOCK_NAME = "lock"
CONVERSION_NAME = "conversion.json"


def is_finished(output: str, request: plan.Request, *, resume: bool, max_quarantined: float) -> bool:
    """Tell whether the output is whole and answers this request; refuse any other content.

    With `resume`, every file of a finished data set is read; one that is damaged is made anew.

    Raises:
        CxrError: the output holds another data set, an unfinished one, or other files.
    """
    location = storage.join(output, manifest.FILE_NAME)
    if not storage.exists(location):
        _check_unfinished(output, request, resume=resume)
        return False
    found = manifest.load(location)
    if not _answers(found, request, output):
        raise ManifestError(
            f"{output}: holds another data set ({_difference(found, request)}); "
            "choose another --output or delete it"
        )
    try:
        _check_whole(found, read=resume)
        images = _images(found) + len(found.quarantined)
        check_quarantined(found.quarantined, images, output, max_quarantined)
    except (ShardError, ImageError):
        if not resume:
            raise
        # Not whole any more: the shards come first again, and the manifest last.
        claim(output, request)
        storage.delete(location)
        return False
    checked = "every byte was read" if resume else "sizes were checked; the audit reads every byte"
    print(f"{location}: already converted with these inputs and settings ({checked}); nothing to do")
    return True


@contextlib.contextmanager
def locked(output: str) -> Iterator[None]:
    """Keep a second conversion out of a folder while the block runs.

    The kernel frees the lock when a process is killed. An object store has none: there `check_claim`, just
    before the manifest is written, finds out that another conversion has begun.

    Raises:
        ManifestError: another conversion is writing here.
    """
    if storage.is_s3(output):
        yield
        return
    path = Path(output, notes.WORK_FOLDER, LOCK_NAME)
    storage.make_folder(str(path.parent))
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ManifestError(
                f"{output}: another conversion is writing here; wait for it, or choose another --output"
            ) from error
        yield


def claim(output: str, request: plan.Request) -> None:
    """Note in the output which request it is to answer."""
    data = json.dumps({"sha256": request.sha256}).encode()
    storage.write_bytes(storage.join(output, REQUEST_NAME), data)


def check_claim(output: str, request: plan.Request) -> None:
    """Check that the output is still claimed for this request.

    Raises:
        ManifestError: another conversion has begun to write here.
    """
    if _claimed_by(output) != request.sha256:
        raise ManifestError(f"{output}: another conversion is writing here; choose another --output")


def clear_away(output: str, items: Sequence[plan.ShardItem]) -> None:
    """Remove the notes, and what workers that were killed left half-written."""
    for item in items:
        storage.delete(notes.location(item, output))
    archives.clear_spool(output)
    storage.delete(storage.join(output, REQUEST_NAME))
    if storage.is_s3(output):
        return
    work = Path(output, notes.WORK_FOLDER)
    ours = [work, *(folder / split for folder in (work, Path(output)) for split in SPLITS), Path(output)]
    for folder in ours:
        for scratch in folder.glob(f".*{storage.SCRATCH_SUFFIX}"):
            scratch.unlink(missing_ok=True)
    (work / LOCK_NAME).unlink(missing_ok=True)
    for folder in (*(work / split for split in SPLITS), work):
        with contextlib.suppress(OSError):  # somebody put something there
            folder.rmdir()


def _check_unfinished(output: str, request: plan.Request, *, resume: bool) -> None:
    claimed_by = _claimed_by(output)
    if claimed_by is not None:
        same = claimed_by == request.sha256
        if same and resume:
            return
        what = "these settings" if same else "other inputs or settings"
        advice = "add --resume to go on with it" if same else "choose another --output or delete it"
        raise ManifestError(f"{output}: holds an unfinished conversion with {what}; {advice}")
    foreign = _entries(output)
    if foreign:
        raise ManifestError(
            f"{output}: holds {len(foreign):,} files that are no data set of this command, such as "
            f"{foreign[0]}; choose another --output"
        )


def _entries(output: str) -> list[str]:
    """Return what lies in the output, hidden files too, but for an empty claim."""
    if storage.is_s3(output):
        return [storage.name(stored.location) for stored in storage.list_files(output)]
    if not Path(output).is_dir():
        return []
    work = Path(output, notes.WORK_FOLDER)
    # A conversion that was killed while it claimed the folder leaves no more than this.
    empty = work.is_dir() and all(
        path.name == LOCK_NAME or path.name.endswith(storage.SCRATCH_SUFFIX) for path in work.iterdir()
    )
    return sorted(
        path.name for path in Path(output).iterdir() if not (path.name == notes.WORK_FOLDER and empty)
    )


def _claimed_by(output: str) -> str | None:
    """Return the request that an unfinished conversion answers; an empty text where that can't be read."""
    return _sha256_in(storage.join(output, REQUEST_NAME), "sha256")


def _answers(found: manifest.Manifest, request: plan.Request, output: str) -> bool:
    """Tell whether a finished data set is what is asked for."""
    same = request.sha256 in (found.request_sha256, _recorded_claim(output))
    asked = {key: request.source[key] for key in plan.MENDABLE if request.source[key] is not None}
    return same and all(found.source.get(key) == value for key, value in asked.items())


def _recorded_claim(output: str) -> str | None:
    """Return what a finished conversion was asked for, by which archives are known that aren't read again."""
    return _sha256_in(storage.join(output, CONVERSION_NAME), "claim_sha256")


def _sha256_in(location: str, key: str) -> str | None:
    """Return a key of a JSON file: None where there is no file, an empty text where it can't be read."""
    if not storage.exists(location):
        return None
    try:
        return str(json.loads(storage.read_bytes(location))[key])
    except (ValueError, KeyError, TypeError):
        return ""


def _check_whole(found: manifest.Manifest, *, read: bool) -> None:
    manifest.check_files(found)
    if not read:
        return
    for split in found.splits.values():
        for file in (*split.shards, split.index):
            manifest.read_checked(found, file)


def _images(found: manifest.Manifest) -> int:
    return sum(split.images for split in found.splits.values())


def _difference(found: manifest.Manifest, request: plan.Request) -> str:
    """Say in what a data set differs from what is asked for."""
    asked = {
        **request.split,
        **{key: value for key, value in request.source.items() if key != "table" and value is not None},
        **{key: value for key, value in asdict(request.pixels).items() if value is not None},
        "records_per_shard": request.records_per_shard,
        "versions": request.versions,
    }
    has = {**found.split, **found.source, **found.image, "versions": found.versions}
    differing = [key for key in asked if has.get(key) != asked[key]]
    if not differing:
        return "made from other images"
    return "; ".join(f"{key} is {has.get(key)}, asked for is {asked[key]}" for key in differing[:3])

"""The output of a conversion: whose it is, who may write it, and what is cleared away at the end.

A finished data set is known by its manifest, an unfinished one by its claim; both name the request that they
answer. Anything else in the folder is somebody's work and is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from beam_pipelines import archives, claims, notes, plan
from beam_pipelines.finish import check_quarantined, count_oddities
from records import manifest, storage
from records.errors import ManifestError, ShardError
from records.splits import SPLITS

LOCK_NAME = "lock"
CONVERSION_NAME = "conversion.json"
# What differs, said for people: the values are hashes.
_HASHED = {
    "lists_sha256": "the split lists are others",
    "table_sha256": "the label table is another",
    "excluded_sha256": "the lists of excluded images are others",
    "files_sha256": "some image files have other sizes",
    "archives_sha256": "an archive was replaced",
}


def find_finished(
    output: str,
    request: plan.Request,
    archives_sha256: str,
    *,
    resume: bool,
    max_quarantined: float,
    read: bool,
) -> manifest.Manifest | None:
    """Return the data set that the output holds, if it is whole and what is asked for; refuse any other.

    Nothing is changed here.

    Args:
        output: the data set's folder or prefix.
        request: what is asked for, as far as it is known before archives are read.
        archives_sha256: names the archives by size and version; empty where there are none.
        resume: whether to go on with what is unfinished; a damaged data set is taken for such a one.
        max_quarantined: share of the images that may have failed.
        read: hold every byte against the manifest, and not just the sizes of the files.

    Raises:
        CxrError: the output holds another data set, an unfinished one, or other files.
    """
    location = storage.join(output, manifest.FILE_NAME)
    if not storage.exists(location):
        _check_unfinished(output, request, resume=resume)
        return None
    found = manifest.load(location)
    difference = _difference_from_finished(found, request, archives_sha256, output)
    if difference:
        raise ManifestError(
            f"{output}: holds another data set ({difference}); choose another --output or delete it"
        )
    images = found.records + len(found.quarantined)
    check_quarantined(found.quarantined, images, output, max_quarantined)
    try:
        _check_whole(found, read=read)
    except ShardError:
        if not resume:
            raise
        return None
    return found


@contextlib.contextmanager
def locked(output: str) -> Iterator[None]:
    """Keep a second conversion out of a folder while the block runs.

    The kernel frees the lock when a process is killed. An object store has none: there the claim tells a run
    that another has begun.

    Raises:
        ManifestError: another conversion is writing here.
    """
    if storage.is_s3(output):
        yield
        return
    path = Path(output, claims.WORK_FOLDER, LOCK_NAME)
    storage.make_folder(str(path.parent))
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ManifestError(
                f"{output}: another conversion is writing here; wait for it, or choose another --output"
            ) from error
        yield


def begin(output: str, request: plan.Request) -> str:
    """Claim the output, and return the run's name; a data set that is damaged loses its manifest."""
    owner = claims.make(output, request)
    # In this order: the shards come first again, and the manifest last.
    storage.delete(storage.join(output, manifest.FILE_NAME))
    return owner


def is_left_behind(output: str) -> bool:
    """Tell whether a conversion was killed between its manifest and the end of `clear_away`."""
    if storage.is_s3(output):
        return storage.exists(storage.join(output, claims.FILE_NAME))
    return Path(output, claims.WORK_FOLDER).is_dir()


def clear_away(output: str) -> None:
    """Remove what a conversion needed while it ran, and what workers that were killed left half-written."""
    for location in _note_locations(output):
        storage.delete(location)
    archives.clear_spool(output)
    storage.delete(storage.join(output, claims.FILE_NAME))
    if storage.is_s3(output):
        return
    work = Path(output, claims.WORK_FOLDER)
    ours = [work, *(folder / split for folder in (work, Path(output)) for split in SPLITS), Path(output)]
    for folder in ours:
        for scratch in folder.glob(f".*{storage.SCRATCH_SUFFIX}"):
            scratch.unlink(missing_ok=True)
    (work / LOCK_NAME).unlink(missing_ok=True)
    for folder in (*(work / split for split in SPLITS), work):
        with contextlib.suppress(OSError):  # somebody put something there
            folder.rmdir()


def _note_locations(output: str) -> list[str]:
    folders = [storage.join(output, claims.WORK_FOLDER, split) for split in SPLITS]
    if storage.is_s3(output):
        found = [stored.location for folder in folders for stored in storage.list_files(folder)]
    else:
        found = [str(path) for folder in folders for path in Path(folder).glob("*")]
    return [location for location in found if location.endswith(notes.SUFFIX)]


def _check_unfinished(output: str, request: plan.Request, *, resume: bool) -> None:
    claim = claims.read(output)
    if claim is not None:
        if claim.get("sha256") != request.sha256:
            asked = claim.get("request")
            difference = _difference(_flat(asked), request) if isinstance(asked, dict) else ""
            raise ManifestError(
                f"{output}: holds an unfinished conversion with other inputs or settings"
                f"{f' ({difference})' if difference else ''}; choose another --output or delete it"
            )
        if not resume:
            raise ManifestError(
                f"{output}: holds an unfinished conversion with these settings; add --resume to go on with it"
            )
        return
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
    work = Path(output, claims.WORK_FOLDER)
    # A conversion that was killed while it claimed the folder leaves no more than this.
    empty = work.is_dir() and all(
        path.name == LOCK_NAME or path.name.endswith(storage.SCRATCH_SUFFIX) for path in work.iterdir()
    )
    return sorted(
        path.name for path in Path(output).iterdir() if not (path.name == claims.WORK_FOLDER and empty)
    )


def _check_whole(found: manifest.Manifest, *, read: bool) -> None:
    manifest.check_files(found)
    if not read:
        return
    for split in found.splits.values():
        for file in (*split.shards, split.index):
            manifest.read_checked(found, file)
    if found.oddities != count_oddities(found):
        raise ShardError(f"{found.folder}: {manifest.ODDITIES_NAME} is not the list that the manifest counts")


def _difference_from_finished(
    found: manifest.Manifest, request: plan.Request, archives_sha256: str, output: str
) -> str:
    """Say in what a finished data set differs from what is asked for, nothing where it doesn't."""
    record = claims.read_json(storage.join(output, CONVERSION_NAME)) or {}
    # Archives aren't read again to find out that they were converted.
    if archives_sha256 and record.get("archives_sha256") != archives_sha256:
        return _HASHED["archives_sha256"]
    asked = {key: request.source[key] for key in plan.MENDABLE if request.source[key] is not None}
    same = request.sha256 in (found.request_sha256, record.get("claim_sha256"))
    if same and all(found.source.get(key) == value for key, value in asked.items()):
        return ""
    has = {**found.split, **found.source, **found.image, "versions": found.versions}
    return _difference(has, request) or "made from other images"


def _difference(has: dict[str, Any], request: plan.Request) -> str:
    """Say in what something that was asked for differs from what is asked for now."""
    asked = _flat(asdict(request))
    differing = [key for key, value in asked.items() if value is not None and has.get(key) != value]
    return "; ".join(
        _HASHED.get(key, f"{key} is {has.get(key)}, asked for is {asked[key]}") for key in differing[:3]
    )


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request's settings by name, as a manifest has them; without the table's name."""
    settings = {**request["split"], **request["source"], **request["pixels"]}
    settings |= {"records_per_shard": request["records_per_shard"], "versions": request["versions"]}
    # As JSON has them: a list for a tuple.
    found: dict[str, Any] = json.loads(json.dumps(settings))
    del found["table"]
    return found

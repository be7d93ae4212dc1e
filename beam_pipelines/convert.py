"""NIH PNGs -> sharded TFRecords: the steps in their order.

The launcher lists the images, joins them to the table, splits by patient and makes one work item for each
shard. Beam spreads the items over its workers, whatever the runner: references travel, pixels never do. The
shards come first; when all are there, index, card and manifest are written from the workers' notes. Tar
archives can't be read at random: a first Beam step reads each of them once and lays its reduced pictures down
beside the output, where the second finds them.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from beam_pipelines import (
    archives,
    claims,
    counters,
    duplicates,
    finish,
    flags,
    forked_workers,
    inputs,
    notes,
    output,
    plan,
    shards,
    sources,
)
from beam_pipelines.forked_workers import Workers
from beam_pipelines.progress import quiet_workers, watch
from records import manifest, splits, storage
from records.errors import CxrError, ManifestError, UsageError
from records.machine import usable_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    # Beam warns at import of parts that this project doesn't use; what fails raises.
    logging.getLogger().setLevel(logging.ERROR)
    try:
        return run(argv)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print("interrupted; run the same command with --resume to go on", file=sys.stderr)
        return 128 + (signal.SIGTERM if interrupt.args == (signal.SIGTERM,) else signal.SIGINT)


def run(argv: Sequence[str] | None = None) -> int:
    """Convert as the flags say.

    Raises:
        CxrError: anything in flags, inputs or output that the user can mend.
    """
    found, beam_flags = flags.parse(argv)
    check_beam_flags(found, beam_flags)  # before a damaged data set gives up its manifest to be made anew
    with forked_workers.nursery(beam_flags) as workers:
        return _run(found, workers)


def _run(found: argparse.Namespace, workers: Workers) -> int:
    start = time.monotonic()
    asked = inputs.read(found)
    listing = asked.listing
    prepared = None if listing.archives else asked.plan_shards(listing.images)
    request = asked.claim() if prepared is None else prepared.request
    finished = functools.partial(
        output.find_finished,
        found.output,
        request,
        asked.archives_sha256,
        resume=found.resume,
        max_quarantined=found.max_quarantined,
    )
    whole = finished(read=False)
    if whole and not found.resume and not output.is_left_behind(found.output):
        return _nothing_to_do(whole, found)
    with output.locked(found.output):
        whole = finished(
            read=found.resume
        )  # by another conversion, since the first look, or by one killed at its very end
        if whole:
            finish.restore(whole)
            output.clear_away(found.output)
            return _nothing_to_do(whole, found)
        owner = output.begin(found.output, request)
        if prepared is None:
            prepared = asked.plan_shards(_read_archives(listing, found, workers))
        done_before = _records_done(prepared, found.output) if found.resume else 0
        by_split = _write_shards(prepared, found, owner, workers)
        claims.check(found.output, owner)
        made = finish.finish(by_split, prepared.request, asked.excluded, found.output)
        converted, elapsed_s = made.records - done_before, time.monotonic() - start
        _write_conversion(asked, request, converted, elapsed_s)
        storage.write_bytes(made.location, made.to_json())
        output.clear_away(found.output)
    _print_summary(made, converted, elapsed_s)
    return 0


def _nothing_to_do(whole: manifest.Manifest, found: argparse.Namespace) -> int:
    checked = "every byte was read" if found.resume else "sizes were checked; the audit reads every byte"
    print(f"{whole.location}: already converted with these inputs and settings ({checked}); nothing to do")
    return 0


def _write_shards(
    prepared: inputs.Plan, found: argparse.Namespace, owner: str, workers: Workers
) -> dict[str, list[notes.ShardNote]]:
    """Write the shards, and those that hold copies again without them; return their notes by split."""
    pixels = prepared.request.pixels
    _in_workers(
        "converting",
        functools.partial(
            shards.write_shard,
            output=found.output,
            settings=pixels,
            versions=prepared.request.versions,
            owner=owner,
        ),
        prepared.items,
        prepared.images,
        workers,
    )
    made = [_note(item, found.output, pixels) for item in prepared.items]
    copies = {} if found.allow_duplicates else duplicates.find(made)
    failed = finish.quarantined(made, duplicates.left_out(copies))
    finish.write_quarantine(failed, found.output)
    finish.check_quarantined(failed, prepared.images, found.output, found.max_quarantined)
    by_split: dict[str, list[notes.ShardNote]] = {split: [] for split in splits.SPLITS}
    for item, note in zip(prepared.items, made, strict=True):
        if copies:
            claims.check(found.output, owner)
        by_split[item.split].append(duplicates.drop(note, item, copies, found.output))
    return by_split


def _read_archives(
    listing: sources.Listing, found: argparse.Namespace, workers: Workers
) -> dict[str, sources.Found]:
    """Read the archives that no earlier run has read; return all images by name."""
    archives.clear_partial(found.output)
    spool = functools.partial(archives.spool, output=found.output, side_px=found.image_side)
    _in_workers("reading archives", spool, listing.archives, None, workers)
    spooled = []
    for archive in listing.archives:
        images = archives.find_spool(archive, found.output, found.image_side)
        if images is None:
            raise ManifestError(f"{archive.location}: the runner has not read it; add --resume")
        spooled.append(images)
    return sources.merge(listing, spooled)


def _in_workers(
    what: str, work: Callable[..., str], items: Sequence[Any], images: int | None, workers: Workers
) -> None:
    """Do the work of each item in Beam's workers, with a progress line."""
    # Beam takes three seconds to import: only when there is something to do.
    from beam_pipelines import pipeline

    with tempfile.TemporaryDirectory(prefix="cxr-convert-") as folder:
        counter = functools.partial(counters.total, folder)
        with quiet_workers(), watch(what, images, counter):
            try:
                pipeline.run(
                    functools.partial(work, counter_folder=folder), items, workers.beam_flags, workers.command
                )
            except Exception as error:
                raise _as_our_error(error) from error


def _as_our_error(error: Exception) -> Exception:
    """Return the error of ours that a worker met, without what Beam puts around its text."""
    text = str(error)
    if isinstance(error, CxrError):
        return type(error)(text.partition(" [while running")[0])
    found = re.findall(r"records\.errors\.(\w+): (.*?)(?: \[while running|\\n|\n|$)", text)
    return CxrError(found[-1][1]) if found else error


def _records_done(prepared: inputs.Plan, folder: str) -> int:
    """Count the records of shards that an earlier run has finished."""
    found = (notes.find(item, folder, prepared.request.pixels) for item in prepared.items)
    return sum(note.shard.records for note in found if note is not None and not note.quarantined)


def _note(item: plan.ShardItem, folder: str, pixels: plan.PixelSettings) -> notes.ShardNote:
    note = notes.find(item, folder, pixels)
    if note is None:
        raise ManifestError(f"{storage.join(folder, item.path)}: the runner has not written it; add --resume")
    return note


def _write_conversion(asked: inputs.Inputs, request: plan.Request, images: int, elapsed_s: float) -> None:
    """Leave beside the manifest what differs from run to run: where and how fast."""
    found = asked.flags
    record = {
        "images": [_absolute(source) for source in found.images],
        "claim_sha256": request.sha256,
        "archives_sha256": asked.archives_sha256,
        "seconds": round(elapsed_s, 2),
        "images_converted": images,
        "images_per_s": round(images / elapsed_s, 1),
        "cpus": usable_cores(),
    }
    storage.write_bytes(
        storage.join(found.output, output.CONVERSION_NAME), (json.dumps(record, indent=1) + "\n").encode()
    )


def _absolute(source: str) -> str:
    return source if "://" in source else os.path.abspath(source)  # noqa: PTH100


def _print_summary(made: manifest.Manifest, converted: int, elapsed_s: float) -> None:
    shares = ", ".join(
        f"{name} {split.images:,} images of {split.patients:,} patients"
        for name, split in made.splits.items()
    )
    print(
        f"{made.location}: {made.records:,} images ({converted:,} converted in {elapsed_s:.1f} s, "
        f"{converted / elapsed_s:.0f} images/s), {shares}, {len(made.quarantined):,} quarantined, "
        f"{len(made.excluded):,} excluded, {made.source['missing']:,} missing"
    )


def check_beam_flags(found: argparse.Namespace, beam_flags: Sequence[str]) -> None:
    """Refuse flags that neither this command nor Beam knows; Beam itself would drop them silently.

    Raises:
        UsageError: the first of them, or a place that the runner's workers can't reach.
    """
    if not beam_flags:
        return
    from beam_pipelines import pipeline

    pipeline.check_flags(beam_flags)
    local = [place for place in (*found.images, found.output) if "://" not in place]
    if local and pipeline.is_elsewhere(beam_flags):
        raise UsageError(
            f"{local[0]}: workers on Dataflow can't reach a local path; expected s3://bucket/prefix"
        )


if __name__ == "__main__":
    # Beam's import and the plan of all images make millions of objects that stay: the collector would walk
    # them over and over, for a second or two.
    gc.disable()
    code = main()
    # Beam's threads would hold up the way out by half a second, and those cut off from their workers would
    # fill the screen.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

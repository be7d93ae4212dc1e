"""NIH PNGs -> sharded TFRecords: flags and assembly.

The launcher lists the images, joins them to the table, splits by patient and makes one work item for each
shard. Beam spreads the items over its workers, whatever the runner: references travel, pixels never do. The
shards come first; when all are there, index, card and manifest are written from the workers' notes.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines import finish, output, plan, shards, sources
from beam_pipelines.progress import quiet_workers, watch
from records import manifest, splits, storage
from records.errors import CxrError, ManifestError, UsageError
from records.table import ImageTable, read_list, read_table

CONVERSION_NAME = "conversion.json"
PHANTOM_NAME = "phantom.json"


class _Prepared(NamedTuple):
    """All that is known before the first image is read."""

    request: plan.Request
    items: list[plan.ShardItem]

    @property
    def images(self) -> int:
        return sum(len(item.rows) for item in self.items)


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
    except KeyboardInterrupt:
        print("interrupted; run the same command with --resume to go on", file=sys.stderr)
        return 130


def run(argv: Sequence[str] | None = None) -> int:
    """Convert as the flags say.

    Raises:
        CxrError: anything in flags, inputs or output that the user can mend.
    """
    flags, beam_flags = _parse(argv)
    check_beam_flags(beam_flags)  # before a damaged data set gives up its manifest to be made anew
    start = time.monotonic()
    prepared = prepare(flags)
    finished = functools.partial(
        output.is_finished,
        flags.output,
        prepared.request,
        resume=flags.resume,
        max_quarantined=flags.max_quarantined,
    )
    if finished():
        return 0
    with output.locked(flags.output):
        if finished():  # by another conversion, since the first look
            return 0
        output.claim(flags.output, prepared.request)
        done_before = _images_done(prepared, flags.output) if flags.resume else 0
        _write_shards(prepared, flags, beam_flags)
        notes = _collect_notes(prepared, flags.output)
        elapsed_s = time.monotonic() - start
        output.check_claim(flags.output, prepared.request)
        _write_conversion(flags, prepared.images - done_before, elapsed_s)
        made = finish.finish(notes, prepared.request, flags.output, flags.max_quarantined)
        output.clear_away(flags.output, prepared.items)
    _print_summary(made, prepared.images - done_before, elapsed_s)
    return 0


def prepare(flags: argparse.Namespace) -> _Prepared:
    """Read table and lists, list the images, and plan the shards; nothing is written."""
    table = read_table(flags.labels)
    images = sources.list_images(flags.images)
    present = sources.check_complete(table, images, allow_missing=flags.allow_missing_images)
    assignment, split = _assign(table, flags)
    items = plan.shard_items(
        table, assignment, images, records_per_shard=flags.records_per_shard, seed=flags.seed
    )
    request = plan.Request(
        source={
            "table": table.name,
            "table_sha256": table.sha256,
            "release": table.release,
            "rows": len(table),
            "missing": int((~present).sum()),
            "ages_unknown": int(np.isnan(table.age_years).sum()),
            "phantom": _is_phantom(flags),
        },
        split=split,
        pixels=plan.PixelSettings(),
        records_per_shard=flags.records_per_shard,
        images_sha256=plan.hash_names(sorted(images)),
        versions=plan.library_versions(),
    )
    return _Prepared(request, items)


def _is_phantom(flags: argparse.Namespace) -> bool:
    """Tell drawn images by the note that their maker leaves, at the table, the source or above it."""
    folders = {storage.parent(flags.labels)}
    for source in flags.images:
        folders |= {source, storage.parent(source), storage.parent(storage.parent(source))}
    return any(storage.exists(storage.join(folder, PHANTOM_NAME)) for folder in folders)


def _assign(table: ImageTable, flags: argparse.Namespace) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the split of each row, and what the manifest says of it."""
    common = {"strategy": flags.split, "seed": flags.seed}
    if flags.split == "official":
        lists = [read_list(location) for location in (flags.train_val_list, flags.test_list)]
        names = (storage.name(flags.train_val_list), storage.name(flags.test_list))
        fraction = flags.validation_fraction
        assignment = splits.official(
            table, *lists, validation_fraction=fraction, seed=flags.seed, names=names
        )
        hashes = dict(zip(("train_val_list", "test_list"), map(plan.hash_names, lists), strict=True))
        return assignment, common | {"validation_fraction": fraction, "lists_sha256": hashes}
    fractions = list(flags.fractions)
    if flags.split == "stratified":
        return splits.stratified(table, fractions=fractions, seed=flags.seed), common | {
            "fractions": fractions
        }
    cuts = list(splits.random_cuts(fractions))
    assignment = splits.random_patients(table, fractions=fractions, seed=flags.seed)
    return assignment, common | {"fractions": fractions, "cuts": cuts}


def _write_shards(prepared: _Prepared, flags: argparse.Namespace, beam_flags: list[str]) -> None:
    # Beam takes three seconds to import: only when there is something to do.
    from beam_pipelines import pipeline

    with tempfile.TemporaryDirectory(prefix="cxr-convert-") as progress_folder:
        counter = lambda: shards.read_progress(progress_folder)  # noqa: E731
        with quiet_workers(), watch("converting", prepared.images, counter):
            try:
                pipeline.run(
                    prepared.items,
                    output=flags.output,
                    settings=prepared.request.pixels,
                    progress_folder=progress_folder,
                    beam_flags=beam_flags,
                )
            except Exception as error:
                raise _as_our_error(error) from error


def _as_our_error(error: Exception) -> Exception:
    """Return the error of ours that a worker met, which Beam wraps in a text of many lines."""
    if isinstance(error, CxrError):
        return error
    found = re.findall(r"records\.errors\.(\w+): (.*?)(?: \[while running|\\n|\n|$)", str(error))
    return CxrError(found[-1][1]) if found else error


def _images_done(prepared: _Prepared, folder: str) -> int:
    """Count the images of shards that an earlier run has finished."""
    found = (shards.find_note(item, folder, prepared.request.pixels) for item in prepared.items)
    return sum(note.shard.records for note in found if note is not None and not note.quarantined)


def _collect_notes(prepared: _Prepared, folder: str) -> dict[str, list[shards.ShardNote]]:
    notes: dict[str, list[shards.ShardNote]] = {split: [] for split in splits.SPLITS}
    for item in prepared.items:
        note = shards.find_note(item, folder, prepared.request.pixels)
        if note is None:
            raise ManifestError(
                f"{storage.join(folder, item.path)}: the runner has not written it; add --resume"
            )
        notes[item.split].append(note)
    return notes


def _write_conversion(flags: argparse.Namespace, images: int, elapsed_s: float) -> None:
    """Leave beside the manifest what differs from run to run: where and how fast."""
    remote = [source for source in flags.images if storage.is_s3(source)]
    record = {
        "images": [source if source in remote else os.path.abspath(source) for source in flags.images],  # noqa: PTH100
        "seconds": round(elapsed_s, 2),
        "images_converted": images,
        "images_per_s": round(images / elapsed_s, 1),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    storage.write_bytes(
        storage.join(flags.output, CONVERSION_NAME), (json.dumps(record, indent=1) + "\n").encode()
    )


def _print_summary(made: manifest.Manifest, converted: int, elapsed_s: float) -> None:
    images = sum(split.images for split in made.splits.values())
    shares = ", ".join(
        f"{name} {split.images:,} images of {split.patients:,} patients"
        for name, split in made.splits.items()
    )
    print(
        f"{made.location}: {images:,} images ({converted:,} converted in {elapsed_s:.1f} s, "
        f"{converted / elapsed_s:.0f} images/s), {shares}, {len(made.quarantined):,} quarantined, "
        f"{made.source['missing']:,} missing"
    )


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.convert",
        description="Convert NIH ChestX-ray14 PNGs to sharded TFRecords. Beam's own flags are passed on.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--images",
        action="append",
        required=True,
        metavar="SRC",
        help="folder or s3:// prefix; may be repeated",
    )
    add("--labels", required=True, metavar="CSV", help="Data_Entry_2017.csv or _v2020.csv, gzipped or plain")
    add("--output", required=True, metavar="OUT", help="folder or s3:// prefix of the data set")
    add("--split", choices=splits.STRATEGIES, required=True)
    add("--train_val_list", metavar="F", help="official: the published training list")
    add("--test_list", metavar="F", help="official: the published test list")
    add(
        "--validation_fraction", type=float, default=0.1, help="official: of train_val's images (%(default)s)"
    )
    add(
        "--fractions",
        type=_fractions,
        metavar="T,V,T",
        help="stratified, random: train,validation,test; random cuts 0.6,0.2,0.2 by 0.2, then by 0.26",
    )
    add("--allow_missing_images", action="store_true", help="convert the images that are there")
    add("--records_per_shard", type=int, default=512, metavar="N", help="at most (%(default)s)")
    add("--seed", type=int, default=17, help="of split and spreading (%(default)s)")
    add(
        "--max_quarantined",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of unreadable images (%(default)s)",
    )
    add("--resume", action="store_true", help="go on with an unfinished conversion")
    flags, beam_flags = parser.parse_known_args(argv)
    _check_flags(flags)
    return flags, beam_flags


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}`; expected three numbers such as 0.9,0.05,0.05") from None


def _check_flags(flags: argparse.Namespace) -> None:
    locations = [*flags.images, flags.labels, flags.output, flags.train_val_list, flags.test_list]
    if "" in locations:
        raise UsageError("an empty location; is a variable of the command line unset?")
    if not 0 <= flags.max_quarantined <= 1:
        raise UsageError(f"--max_quarantined={flags.max_quarantined}; expected a share, 0 to 1")
    if flags.split == "official" and flags.fractions is not None:
        raise UsageError("--fractions goes with --split stratified or random, not official")
    if flags.split != "official" and (flags.train_val_list or flags.test_list):
        raise UsageError("--train_val_list and --test_list go with --split official")
    if flags.split == "official" and not (flags.train_val_list and flags.test_list):
        raise UsageError("--split official needs --train_val_list and --test_list")
    if flags.split != "official" and flags.fractions is None:
        raise UsageError(f"--split {flags.split} needs --fractions, such as 0.9,0.05,0.05")
    if flags.records_per_shard < 1:
        raise UsageError(f"--records_per_shard={flags.records_per_shard}; expected at least 1")
    if not 0 <= flags.seed < 2**32:
        raise UsageError(f"--seed={flags.seed}; expected 0 to {2**32 - 1}")


def check_beam_flags(beam_flags: Sequence[str]) -> None:
    """Refuse flags that neither this command nor Beam knows; Beam itself would drop them silently."""
    if not beam_flags:
        return
    from beam_pipelines import pipeline

    pipeline.check_flags(beam_flags)


if __name__ == "__main__":
    code = main()
    if code:
        # Beam's threads, cut off from their workers, would fill the screen on the way out.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

"""NIH PNGs -> sharded TFRecords: flags and assembly.

The launcher lists the images, joins them to the table, splits by patient and makes one work item for each
shard. Beam spreads the items over its workers, whatever the runner: references travel, pixels never do. The
shards come first; when all are there, index, card and manifest are written from the workers' notes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines import finish, plan, shards, sources
from beam_pipelines.progress import quiet_workers, watch
from records import manifest, splits, storage
from records.errors import CxrError, ManifestError, UsageError
from records.table import ImageTable, read_list, read_table

REQUEST_NAME = f"{shards.WORK_FOLDER}/request.json"
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
    except KeyboardInterrupt:
        print("interrupted; run the same command with --resume to go on", file=sys.stderr)
        return 130


def run(argv: Sequence[str] | None = None) -> int:
    """Convert as the flags say.

    Raises:
        CxrError: anything in flags, inputs or output that the user can mend.
    """
    flags, beam_flags = _parse(argv)
    start = time.monotonic()
    prepared = prepare(flags)
    if _already_converted(flags, prepared.request):
        return 0
    check_beam_flags(beam_flags)
    storage.write_bytes(
        storage.join(flags.output, REQUEST_NAME), json.dumps({"sha256": prepared.request.sha256}).encode()
    )
    _write_shards(prepared, flags, beam_flags)
    notes = _collect_notes(prepared, flags.output)
    elapsed_s = time.monotonic() - start
    _write_conversion(flags, prepared, elapsed_s)
    made = finish.finish(notes, prepared.request, flags.output, flags.max_quarantined)
    _clean_up(prepared, flags.output)
    _print_summary(made, elapsed_s)
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
            "phantom": any(storage.exists(storage.join(source, PHANTOM_NAME)) for source in flags.images),
        },
        split=split,
        pixels=plan.PixelSettings(),
        records_per_shard=flags.records_per_shard,
        images_sha256=plan.hash_names(sorted(images)),
    )
    return _Prepared(request, items)


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


def _already_converted(flags: argparse.Namespace, request: plan.Request) -> bool:
    """Tell whether the output holds this very data set; refuse any other content."""
    output = flags.output
    if storage.exists(storage.join(output, manifest.FILE_NAME)):
        found = manifest.load(output)
        if found.request_sha256 != request.sha256:
            raise ManifestError(
                f"{output}: holds another data set (release {found.source['release']}, "
                f"{found.split['strategy']} split, seed {found.split['seed']}, "
                f"{sum(split.images for split in found.splits.values()):,} images); "
                "choose another --output or delete it"
            )
        manifest.check_files(found)
        print(f"{found.location}: already converted with these inputs and settings; nothing to do")
        return True
    _check_unfinished(flags, request)
    return False


def _check_unfinished(flags: argparse.Namespace, request: plan.Request) -> None:
    output, note = flags.output, storage.join(flags.output, REQUEST_NAME)
    if storage.exists(note):
        same = json.loads(storage.read_bytes(note)).get("sha256") == request.sha256
        if same and flags.resume:
            return
        what = "these settings" if same else "other inputs or settings"
        advice = "add --resume to go on with it" if same else "choose another --output or delete it"
        raise ManifestError(f"{output}: holds an unfinished conversion with {what}; {advice}")
    is_folder = storage.is_s3(output) or os.path.isdir(output)  # noqa: PTH112
    if is_folder and (files := storage.list_files(output)):
        raise ManifestError(
            f"{output}: holds {len(files):,} files that are no data set of this command, such as "
            f"{files[0].location}; choose another --output"
        )


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


def _collect_notes(prepared: _Prepared, output: str) -> dict[str, list[shards.ShardNote]]:
    notes: dict[str, list[shards.ShardNote]] = {split: [] for split in splits.SPLITS}
    for item in prepared.items:
        note = shards.find_note(item, output, prepared.request.pixels)
        if note is None:
            raise ManifestError(
                f"{storage.join(output, item.path)}: the runner has not written it; add --resume"
            )
        notes[item.split].append(note)
    return notes


def _write_conversion(flags: argparse.Namespace, prepared: _Prepared, elapsed_s: float) -> None:
    """Leave beside the manifest what differs from run to run: where and how fast."""
    remote = [source for source in flags.images if storage.is_s3(source)]
    record = {
        "images": [source if source in remote else os.path.abspath(source) for source in flags.images],  # noqa: PTH100
        "seconds": round(elapsed_s, 2),
        "images_per_s": round(prepared.images / elapsed_s, 1),
        "cpus": os.cpu_count(),
    }
    storage.write_bytes(
        storage.join(flags.output, CONVERSION_NAME), (json.dumps(record, indent=1) + "\n").encode()
    )


def _clean_up(prepared: _Prepared, output: str) -> None:
    """Remove the notes, and what workers that were killed left half-written."""
    for item in prepared.items:
        storage.delete(shards.note_location(item, output))
    storage.delete(storage.join(output, REQUEST_NAME))
    if not storage.is_s3(output):
        shutil.rmtree(storage.join(output, shards.WORK_FOLDER), ignore_errors=True)
        for scratch in Path(output).rglob(f".*{storage.SCRATCH_SUFFIX}"):
            scratch.unlink(missing_ok=True)


def _print_summary(made: manifest.Manifest, elapsed_s: float) -> None:
    images = sum(split.images for split in made.splits.values())
    shares = ", ".join(
        f"{name} {split.images:,} images of {split.patients:,} patients"
        for name, split in made.splits.items()
    )
    print(
        f"{made.location}: {images:,} images in {elapsed_s:.1f} s ({images / elapsed_s:.0f} images/s), "
        f"{shares}, {len(made.quarantined):,} quarantined"
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
    add("--fractions", type=_fractions, metavar="T,V,T", help="stratified, random: train,validation,test")
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

    unknown = pipeline.unknown_flags(beam_flags)
    if unknown:
        raise UsageError(
            f"unknown flag {unknown[0]}; see --help, and Beam's documentation for its runners' flags"
        )


if __name__ == "__main__":
    sys.exit(main())

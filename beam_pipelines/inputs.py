"""What a conversion is asked for: table, lists and sources read, nothing written yet.

Images that can be reached at random are listed here; what stands in tar archives is known only once those
have been read, so until then an archive stands for its images by name, size and version.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines import plan, sources
from records import splits, storage
from records.errors import TableError
from records.exclusions import read_exclusions
from records.table import ImageTable, read_list, read_table

PHANTOM_NAME = "phantom.json"


class Plan(NamedTuple):
    """All that is known before the first image is converted."""

    request: plan.Request
    items: list[plan.ShardItem]

    @property
    def images(self) -> int:
        return sum(len(item.rows) for item in self.items)


@dataclass(frozen=True)
class Inputs:
    """What the flags name, read.

    Attributes:
        flags: of the conversion.
        table: the label table, N rows.
        assignment: (N,) index into `splits.SPLITS`.
        split: what the manifest says of the split.
        excluded: reason by image that lists leave out.
        listing: what the sources hold.
    """

    flags: argparse.Namespace
    table: ImageTable
    assignment: np.ndarray
    split: dict[str, Any]
    excluded: dict[str, str]
    listing: sources.Listing

    def claim(self) -> plan.Request:
        """Return the request as far as it is known before archives are read."""
        archives = (storage.name(archive.location) for archive in self.listing.archives)
        return self._request([*sorted(self.listing.images), *archives])

    @property
    def archives_sha256(self) -> str:
        """Name of the archives by size and version; empty where there are none."""
        archives = [
            f"{storage.name(archive.location)} {archive.size_bytes} {archive.version}"
            for archive in self.listing.archives
        ]
        return plan.hash_names(archives) if archives else ""

    def plan_shards(self, images: Mapping[str, sources.Found]) -> Plan:
        """Join the images to the table and spread them over shards.

        Args:
            images: all of them, by name.

        Raises:
            TableError: an image that the table doesn't have, or one that is missing; or none is left.
        """
        present = sources.check_complete(
            self.table, images, self.excluded, allow_missing=self.flags.allow_missing_images
        )
        used = {name: found for name, found in images.items() if name not in self.excluded}
        items = plan.shard_items(
            self.table,
            self.assignment,
            used,
            records_per_shard=self.flags.records_per_shard,
            seed=self.flags.seed,
        )
        if not items:
            raise TableError("no image is left to convert: all are missing or excluded")
        gone = (name not in self.excluded for name in self.table.image_ids[~present].tolist())
        sizes = (f"{name} {found.size_bytes}" for name, found in sorted(images.items()))
        request = self._request(sorted(images), files_sha256=plan.hash_names(sizes), missing=sum(gone))
        return Plan(request, items)

    def _request(self, images: Iterable[str], **counted: Any) -> plan.Request:
        flags, table = self.flags, self.table
        excluded = (f"{name} {why}" for name, why in sorted(self.excluded.items()))
        return plan.Request(
            source={
                "table": table.name,
                "table_sha256": table.sha256,
                "release": table.release,
                "rows": len(table),
                "missing": None,
                "excluded_sha256": plan.hash_names(excluded),
                "files_sha256": None,
                "duplicates_allowed": flags.allow_duplicates,
                "ages_unknown": int(np.isnan(table.age_years).sum()),
                "phantom": _is_phantom(flags),
                **counted,
            },
            split=self.split,
            pixels=plan.PixelSettings(
                flags.image_side, flags.stored_channels, flags.encoding, flags.jpeg_quality
            ),
            records_per_shard=flags.records_per_shard,
            images_sha256=plan.hash_names(images),
            versions=plan.library_versions(),
        )


def read(flags: argparse.Namespace) -> Inputs:
    """Read table and lists, and list the sources.

    Raises:
        CxrError: anything of it that the user can mend.
    """
    table = read_table(flags.labels)
    excluded: dict[str, str] = {}
    for location in flags.exclude_list:
        for name, reason in read_exclusions(location, table).items():
            excluded[name] = f"{excluded[name]}; {reason}" if name in excluded else reason
    assignment, split = _assign(table, flags)
    return Inputs(flags, table, assignment, split, excluded, sources.list_sources(flags.images))


def _is_phantom(flags: argparse.Namespace) -> bool:
    """Tell drawn images by the note that their maker leaves, at the table, the source or above it."""
    folders = {storage.parent(flags.labels)}
    for source in flags.images:
        folders |= {source, storage.parent(source), storage.parent(storage.parent(source))}
    # Phantoms are made in folders and in S3, never there.
    ours = (folder for folder in folders if not folder.startswith("gs:"))
    return any(storage.exists(storage.join(folder, PHANTOM_NAME)) for folder in ours)


def _assign(table: ImageTable, flags: argparse.Namespace) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the split of each row, and what the manifest says of it."""
    common = {"strategy": flags.split, "seed": flags.seed}
    if flags.split == "official":
        lists = [read_list(location) for location in (flags.train_val_list, flags.test_list)]
        names = (storage.name(flags.train_val_list), storage.name(flags.test_list))
        if len(lists[1]) > len(lists[0]):
            print(
                f"note: {names[1]} names more images to test on ({len(lists[1]):,}) than {names[0]} "
                f"to train on ({len(lists[0]):,}); are they swapped?",
                file=sys.stderr,
            )
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

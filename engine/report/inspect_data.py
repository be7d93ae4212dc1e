"""`engine inspect`: a data set at a glance, and a contact sheet of some of its records.

All but the pictures comes from the manifest; records are read by offset through the index, so that a look at
a data set costs the same whatever its size. The page of plots, which reads every record, is `data_page`'s.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from engine.report import contact_sheet, data_page, stored_records
from engine.report.template import training_pixels
from records import example, manifest, storage
from records.errors import UsageError
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

# Enough to meet the rarest finding (one image in 500) several times.
MAX_CANDIDATES = 4096
# A remote shard is fetched whole, so only a few are looked into.
MAX_REMOTE_SHARDS = 4
# Where no terminal says how wide it is.
_PIPE_WIDTH = 112


def run(
    data: str,
    images: int,
    png: str | None,
    as_json: bool,
    split: str | None = None,
    report: str | None = None,
) -> int:
    """Show a data set, and write a contact sheet and a page if asked to.

    Args:
        data: location of the manifest or of its folder.
        images: on the contact sheet.
        png: where to write it; None writes none.
        as_json: print JSON instead of tables.
        split: that the sheet shows; None is the first split with images, train before all.
        report: where to write the page with the plots; None writes none.

    Returns:
        0.

    Raises:
        CxrError: no data set, a damaged one, or one without the split.
    """
    data_set = manifest.load(data)
    if images < 1:
        raise UsageError(f"--images {images}; expected at least 1")
    if as_json:
        print(json.dumps(summary(data_set), indent=1))
    else:
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        print_summary(data_set, Console(markup=False, highlight=False, width=width))
    if png:
        shown = pick(data_set, split or _first_split(data_set), images)
        contact_sheet.write_png(png, contact_sheet.draw(shown))
        print(f"{png}: {len(shown)} images", file=sys.stderr)
    if report:
        print(data_page.write(data_set, report), file=sys.stderr)
    return 0


def summary(data_set: Manifest) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "manifest": data_set.location,
        "sha256": data_set.sha256,
        "schema_version": data_set.schema_version,
        "source": data_set.source,
        "split": data_set.split,
        "image": data_set.image,
        "statistics": data_set.statistics,
        "splits": {
            name: {
                "images": split.images,
                "patients": split.patients,
                "shards": len(split.shards),
                "bytes": sum(shard.size_bytes for shard in split.shards),
            }
            for name, split in data_set.splits.items()
        },
        "findings": {finding: _finding(data_set, finding) for finding in FINDINGS},
        "patients_in_two_splits": data_set.patients_in_two_splits,
        "quarantined": len(data_set.quarantined),
    }


def print_summary(data_set: Manifest, console: Console) -> None:
    """Show a manifest: where it comes from, its splits, its findings."""
    source, image, split = data_set.source, data_set.image, data_set.split
    console.print(data_set.location, style="bold")
    if source.get("phantom"):
        console.print("Phantom data: drawn, not patients.", style="bold yellow")
    _print_facts(
        console,
        {
            "data set": f"sha256 {data_set.sha256[:12]}, schema version {data_set.schema_version}",
            "table": f"{source.get('table', '?')}, release {source.get('release', '?')}, "
            f"sha256 {str(source.get('table_sha256', '?'))[:12]}",
            "split": f"{split.get('strategy', '?')}, seed {split.get('seed', '?')}",
            "pictures": f"{image.get('side_px', '?')} x {image.get('side_px', '?')} px, "
            f"{image.get('stored_channels', '?')} channel(s), {image.get('encoding', '?')}",
            "training pixels": training_pixels(data_set),
            "patients in two splits": str(data_set.patients_in_two_splits),
            "quarantined images": f"{len(data_set.quarantined):,}",
        },
    )
    console.print(_split_table(data_set))
    console.print(_finding_table(data_set))


def pick(data_set: Manifest, split: str, count: int) -> list[example.Record]:
    """Read some records spread over a split and over the findings; the same ones each time.

    Args:
        data_set: the manifest.
        split: `train`, `validation` or `test`.
        count: how many; all of a smaller split.

    Raises:
        UsageError: the split is empty.
        ShardError: index or shard are missing or damaged.
    """
    if not data_set.splits[split].images:
        raise UsageError(f"{data_set.location}: the {split} split is empty; choose another with --split")
    rows = stored_records.load_index(data_set, split)
    candidates = _candidates(data_set, split, rows)
    labels = _read_labels(data_set, split, rows[candidates])
    return stored_records.read_records(data_set, split, rows[candidates[spread(labels, candidates, count)]])


def spread(labels: np.ndarray, positions: np.ndarray, count: int) -> np.ndarray:
    """Choose records one by one: those whose findings were shown least, then the farthest from the others.

    Args:
        labels: (C, 14) uint8 of C candidates.
        positions: (C,) in the split.
        count: how many to choose.

    Returns:
        (min(count, C),) ascending indices into the candidates.
    """
    # No finding at all counts as a fifteenth finding.
    shows = np.column_stack([labels, ~labels.any(axis=1)]).astype(np.float64)
    shows /= shows.sum(axis=1, keepdims=True)
    shown = np.zeros(shows.shape[1])
    distance = np.full(len(labels), np.inf)
    free = np.ones(len(labels), bool)
    for _ in range(min(count, len(labels))):
        order = np.lexsort((positions, -distance, np.where(free, shows @ shown, np.inf)))
        chosen = order[0]
        free[chosen] = False
        shown += shows[chosen] > 0
        distance = np.minimum(distance, np.abs(positions - positions[chosen]))
    return np.flatnonzero(~free)


def _candidates(data_set: Manifest, split: str, rows: np.ndarray) -> np.ndarray:
    """Return (C,) positions, evenly spread over the split."""
    positions = np.arange(len(rows))
    shards = len(data_set.splits[split].shards)
    if storage.is_remote(data_set.location) and shards > MAX_REMOTE_SHARDS:
        looked_into = np.linspace(0, shards - 1, MAX_REMOTE_SHARDS).astype(int)
        positions = positions[np.isin(rows["shard"], looked_into)]
    evenly = np.linspace(0, len(positions) - 1, min(len(positions), MAX_CANDIDATES)).astype(int)
    return positions[evenly]


def _read_labels(data_set: Manifest, split: str, rows: np.ndarray) -> np.ndarray:
    """Return (R, 14) uint8; each label is one byte of the shard."""
    sizes = np.full(len(rows), len(FINDINGS))
    spans = stored_records.read_spans(data_set, split, rows, "labels_offset", sizes)
    return np.frombuffer(b"".join(spans), np.uint8).reshape(len(rows), len(FINDINGS))


def _first_split(data_set: Manifest) -> str:
    for name in SPLITS:
        if data_set.splits[name].images:
            return name
    raise UsageError(f"{data_set.location}: the data set holds no image; nothing to show")


def _finding(data_set: Manifest, finding: str) -> dict[str, Any]:
    return {
        name: {
            "images": split.positives[finding],
            "patients": split.positive_patients[finding],
            "prevalence": split.prevalence[finding],
        }
        for name, split in data_set.splits.items()
    }


def _print_facts(console: Console, facts: dict[str, str]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for name, value in facts.items():
        grid.add_row(name, value)
    console.print(grid)


def _split_table(data_set: Manifest) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("split")
    for heading in ("images", "patients", "shards", "MB"):
        table.add_column(heading, justify="right")
    for name, split in data_set.splits.items():
        megabytes = sum(shard.size_bytes for shard in split.shards) / 1e6
        cells = (f"{split.images:,}", f"{split.patients:,}", f"{len(split.shards):,}", f"{megabytes:,.1f}")
        table.add_row(name, *cells)
    return table


def _finding_table(data_set: Manifest) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("finding: images / patients")
    for name in data_set.splits:
        table.add_column(name, justify="right")
        table.add_column("", justify="right")
    for finding in FINDINGS:
        cells = []
        for split in data_set.splits.values():
            cells += [
                f"{split.positives[finding]:,} / {split.positive_patients[finding]:,}",
                f"{split.prevalence[finding]:.2%}",
            ]
        table.add_row(finding, *cells)
    return table

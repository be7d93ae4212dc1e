"""The two passes over boxed pictures: each heat map is judged, then the chosen ones are drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.heatmaps import boxed_images, gallery
from engine.heatmaps import boxes as geometry
from engine.heatmaps.boxed_images import BoxedFinding
from engine.heatmaps.run_maps import RunMaps
from engine.heatmaps.scores import Judged
from engine.input.reader import ShardReader
from engine.training.progress import say
from records.manifest import Manifest

# Findings at a time, each in a picture.
_BATCH = 16
_LINE_EVERY_S = 10.0


def judge(maps: RunMaps, data_set: Manifest, boxed: Sequence[BoxedFinding]) -> list[Judged]:
    """Hold each finding's heat map against its boxes; shows how far it came.

    Args:
        maps: of the run.
        data_set: its manifest.
        boxed: sorted by split.

    Raises:
        RunError: a map isn't finite.
    """
    judged = []
    for batch, images, pictures in _shown(_batches(data_set, boxed), boxed):
        found = maps.maps(images, pictures, batch)
        of_images = maps.probabilities(images)
        for one, picture, heat_map in zip(batch, pictures, found, strict=True):
            probability = float(of_images[picture, one.column])
            judged.append(Judged(one, probability, geometry.find(heat_map, one.stored)))
    return judged


def draw(
    maps: RunMaps, data_set: Manifest, chosen: Sequence[gallery.Choice], cbam: bool
) -> dict[str, np.ndarray]:
    """Compute the chosen maps once more, which takes less than keeping all; return pictures by file name."""
    of_boxed = {id(choice.judged.boxed): choice for choice in chosen}
    boxed = sorted((choice.judged.boxed for choice in chosen), key=lambda one: (one.split, one.row))
    drawn = {}
    for batch, images, pictures in _batches(data_set, boxed):
        found = maps.maps(images, pictures, batch)
        spatial, channels = maps.cbam(images) if cbam else (None, [])
        for one, picture, heat_map in zip(batch, pictures, found, strict=True):
            choice = of_boxed[id(one)]
            attention = None if spatial is None else (spatial[picture], [each[picture] for each in channels])
            drawn[gallery.file_name(choice)] = gallery.draw(
                choice, images[picture, ..., 0], heat_map, attention
            )
    return drawn


def _batches(
    data_set: Manifest, boxed: Sequence[BoxedFinding]
) -> Iterator[tuple[list[BoxedFinding], np.ndarray, np.ndarray]]:
    """Yield findings of one split, their pictures (B, S, S, C), and which picture belongs to which."""
    for split, of_split in groupby(boxed, key=lambda one: one.split):
        rest = list(of_split)
        with ShardReader(data_set, split) as reader:
            for first in range(0, len(rest), _BATCH):
                batch = rest[first : first + _BATCH]
                yield (batch, *boxed_images.read_pictures(reader, batch))


def _shown(batches: Iterable[Any], boxed: Sequence[BoxedFinding]) -> Iterator[Any]:
    """Pass batches on, with a bar, or with plain lines where no terminal is."""
    bar = Progress(
        TextColumn("heat maps"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    began_s = next_line_s = time.monotonic()
    done = 0
    with bar:
        task = bar.add_task("", total=len(boxed), rate="")
        for batch in batches:
            yield batch
            done += len(batch[0])
            now_s = time.monotonic()
            rate = done / max(now_s - began_s, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:.1f} maps/s")
            if bar.disable and (now_s >= next_line_s + _LINE_EVERY_S or done == len(boxed)):
                next_line_s = now_s
                left_s = (len(boxed) - done) / rate
                say(f"{done:,} of {len(boxed):,} heat maps, {rate:.1f} a second, {left_s:.0f} s left")

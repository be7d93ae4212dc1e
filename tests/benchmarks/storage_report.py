"""Figures of the storage benchmark -> a table on screen, results.md, results.json and a chart."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import rate_report
from rate_report import Goal
from storage_consumer import Taken

WANTED_SHARE, WANTED_UTILISATION = 0.85, 0.95
HEADINGS = (
    "added",
    "way",
    "MB/s",
    "lowest to highest",
    "of the GETs",
    "images/s",
    "CPU-s per 1,000",
    "first batch, s",
    "utilisation",
)


@dataclass(frozen=True)
class Figures:
    """What one candidate took at one latency; medians but for the lowest and the highest.

    Attributes:
        added_ms: to each round trip.
        way: the candidate's name, with the version of its package.
        runs: as fast as batches came.
        mb_per_s: of the shards' bytes, 1 MB = 10^6 bytes.
        share_of_gets: `mb_per_s` over that of the plain GETs at this latency.
        images_per_s: likewise of the images.
        cpu_s_per_1000: CPU seconds per 1,000 images.
        open_s: until manifest and index, or what stands for them, were read.
        first_batch_s: from the call for it.
        utilisation: share of the first epoch in which the emulated step had work; None: not measured.
        utilisation_after_first: the same from the first batch on.
        second_epoch_utilisation: as `utilisation`, for the second epoch.
        second_epoch_gets: requests for objects in the second epoch, the most of any run; None: not counted.
    """

    added_ms: float
    way: str
    runs: int
    mb_per_s: float
    lowest_mb_per_s: float
    highest_mb_per_s: float
    share_of_gets: float
    images_per_s: float
    cpu_s_per_1000: float
    open_s: float
    first_batch_s: float
    utilisation: float | None
    utilisation_after_first: float | None
    second_epoch_utilisation: float | None
    second_epoch_gets: int | None


def figures(
    added_ms: float,
    way: str,
    epochs: Sequence[Taken],
    paced: Sequence[Sequence[Taken]],
    gets_mb_per_s: float,
) -> Figures:
    """Sum up the runs of a candidate at a latency."""

    def median(of: Callable[[Taken], float]) -> float:
        return statistics.median(map(of, epochs))

    def paced_median(of: Callable[[Taken], float], epoch: int) -> float | None:
        found = [of(run[epoch]) for run in paced if len(run) > epoch]
        return statistics.median(found) if found else None

    rates = [mb_per_s(taken) for taken in epochs]
    counted = [run[1].gets for run in paced if len(run) > 1 and run[1].gets is not None]
    return Figures(
        added_ms=added_ms,
        way=way,
        runs=len(epochs),
        mb_per_s=statistics.median(rates),
        lowest_mb_per_s=min(rates),
        highest_mb_per_s=max(rates),
        share_of_gets=statistics.median(rates) / gets_mb_per_s,
        images_per_s=median(lambda taken: taken.images / taken.wall_s),
        cpu_s_per_1000=median(lambda taken: 1000 * taken.cpu_s / taken.images),
        open_s=median(lambda taken: taken.open_s),
        first_batch_s=median(lambda taken: taken.first_batch_s),
        utilisation=paced_median(lambda taken: 1 - taken.wait_s / taken.wall_s, 0),
        utilisation_after_first=paced_median(
            lambda taken: 1 - (taken.wait_s - taken.first_batch_s) / (taken.wall_s - taken.first_batch_s), 0
        ),
        second_epoch_utilisation=paced_median(lambda taken: 1 - taken.wait_s / taken.wall_s, 1),
        second_epoch_gets=max(counted) if counted else None,
    )


def mb_per_s(taken: Taken) -> float:
    """Return the rate of one run."""
    return taken.size_bytes / taken.wall_s / 1e6


def goals(ours: Sequence[Figures]) -> list[Goal]:
    """Hold this project's figures, one for each latency, against what is wanted of them."""
    found = [
        Goal(f"MB/s over the GETs', +{one.added_ms:g} ms", one.share_of_gets, WANTED_SHARE) for one in ours
    ]
    for one in ours:
        at = f"+{one.added_ms:g} ms"
        if one.utilisation is not None:
            found.append(Goal(f"utilisation in the first epoch, {at}", one.utilisation, WANTED_UTILISATION))
        if one.utilisation_after_first is not None:
            found.append(Goal(f"the same from the first batch on, {at}", one.utilisation_after_first))
        if one.second_epoch_gets is not None:
            name = f"requests for shards in the second epoch, {at}"
            found.append(Goal(name, one.second_epoch_gets, 0, at_most=True))
    return found


def write(
    folder: Path,
    *,
    title: str,
    facts: Sequence[str],
    rows: Sequence[Figures],
    ours: Sequence[Figures],
    notes: Sequence[str],
) -> None:
    """Print the table and leave it as results.md, results.json and results.png.

    Args:
        folder: takes the files.
        title: of the table.
        facts: about machine, network and versions.
        rows: by latency, the plain GETs first.
        ours: those rows that are this project's.
        notes: said below the table.
    """
    held = goals(ours)
    lines = [f"### {title}", "", ", ".join(facts), ""]
    lines += rate_report.markdown_table(HEADINGS, [_cells(row) for row in rows])
    lines += [f"\n{note}" for note in notes]
    lines += ["", *rate_report.goal_lines(held)]
    rate_report.write_results(
        folder,
        lines,
        {
            "title": title,
            "facts": list(facts),
            "rows": [asdict(row) for row in rows],
            "notes": list(notes),
            "goals": rate_report.goals_as_json(held),
        },
    )
    draw(folder / "results.png", rows, title)
    print(folder / "results.png", file=sys.stderr)


def draw(path: Path, rows: Sequence[Figures], title: str) -> None:
    """Draw a group of bars for each latency: medians, with the lowest and the highest run as whiskers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ways, latencies = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("way", "added_ms"))
    drawing, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(ways)
    for number, way in enumerate(ways):
        found = [row for row in rows if row.way == way]
        middle = [latencies.index(row.added_ms) + (number - (len(ways) - 1) / 2) * width for row in found]
        heights = [row.mb_per_s for row in found]
        below = [row.mb_per_s - row.lowest_mb_per_s for row in found]
        above = [row.highest_mb_per_s - row.mb_per_s for row in found]
        colour = "0.75" if number == 0 else f"C{number - 1}"
        bars = axes.bar(middle, heights, width, yerr=(below, above), label=way, color=colour, capsize=2)
        axes.bar_label(bars, [f"{height:.0f}" for height in heights], fontsize=7, padding=2)
    axes.set_xticks(range(len(latencies)), [f"+{latency:g} ms a round trip" for latency in latencies])
    axes.set_ylabel("MB/s, first epoch, cold cache")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, dpi=150)
    pyplot.close(drawing)


def _cells(row: Figures) -> list[str]:
    return [
        f"{row.added_ms:g} ms",
        row.way,
        f"{row.mb_per_s:.0f}",
        f"{row.lowest_mb_per_s:.0f} to {row.highest_mb_per_s:.0f}",
        f"{row.share_of_gets:.2f}",
        f"{row.images_per_s:,.0f}",
        f"{row.cpu_s_per_1000:.2f}",
        f"{row.first_batch_s:.2f}" if row.first_batch_s else "",
        f"{row.utilisation:.3f}" if row.utilisation is not None else "",
    ]

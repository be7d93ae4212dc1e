"""Figures of the input benchmark -> results.md with a table, results.json and results.png with a chart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
from input_candidates import CANDIDATES, COLD, OURS
from input_goals import Measured
from input_turns import Figures
from rate_report import Goal, goal_lines, goals_as_json, markdown_table, write_results

matplotlib.use("Agg")
from matplotlib import pyplot

TITLES = {
    "raw": "raw pictures, page cache warm",
    "jpeg": "JPEG 95, page cache warm",
    COLD: "raw pictures, cold files",
}
HEADINGS = ("reader", "images/s", "lowest to highest", "CPU-s per 1,000")
WARM_HEADINGS = ("of 80 ms steps", "s to first batch", "with imports", "MB", "shuffles", "settings")
_OURS_COLOUR, _LIMITS_COLOUR, _OTHERS_COLOUR = "#c2410c", "#dbe3ee", "#94a3b8"
_BY_NAME = {candidate.name: candidate for candidate in CANDIDATES}


def write_report(
    folder: Path, title: str, facts: Sequence[str], results: Mapping[str, Measured], goals: Sequence[Goal]
) -> None:
    """Print the tables and leave them, the numbers behind them and the chart in a folder."""
    lines = [f"### {title}", "", ", ".join(facts), ""]
    for what, measured in results.items():
        lines += [f"#### {TITLES[what]}", "", *_table(what, measured), ""]
    lines += goal_lines(goals)
    _draw(folder / "results.png", results)
    write_results(
        folder,
        lines,
        {
            "title": title,
            "facts": list(facts),
            "results": {
                what: {name: asdict(figures) for name, figures in measured.items()}
                for what, measured in results.items()
            },
            "goals": goals_as_json(goals),
        },
    )


def ranked(measured: Measured) -> list[tuple[str, Figures]]:
    """Return the candidates with the fastest first, and at the end those that weren't measured."""
    return sorted(measured.items(), key=lambda item: -statistics.median(item[1].images_per_s or [0.0]))


def other_work(results: Mapping[str, Measured]) -> str:
    """Say how much of the cores' time went to other work while the candidates were measured."""
    warm = [measured for what, measured in results.items() if what != COLD]
    shares = [share for measured in warm for figures in measured.values() for share in figures.others]
    return f"other work had {statistics.median(shares):.0%} of the cores' time (at most {max(shares):.0%})"


def _table(what: str, measured: Measured) -> list[str]:
    headings = HEADINGS if what == COLD else HEADINGS + WARM_HEADINGS
    rows = []
    for name, figures in ranked(measured):
        label = f"**{name}**" if name == OURS else f"{name} {figures.versions}".strip()
        if figures.not_measured or not figures.images_per_s:
            rows.append([label, "–", figures.not_measured, *[""] * (len(headings) - 3)])
            continue
        rows.append([label, *_cells(figures), *([] if what == COLD else _warm_cells(name, figures))])
    return markdown_table(headings, rows)


def _cells(figures: Figures) -> list[str]:
    rates = figures.images_per_s
    return [
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{statistics.median(figures.cpu_s_per_1000):.3f}",
    ]


def _warm_cells(name: str, figures: Figures) -> list[str]:
    return [
        f"{statistics.median(figures.utilisation):.3f}",
        f"{statistics.median(figures.first_batch_s):.2f}",
        f"{statistics.median(figures.from_process_start_s):.1f}",
        f"{figures.peak_bytes / 1e6:.0f}",
        _BY_NAME[name].shuffles,
        figures.settings,
    ]


def _draw(path: Path, results: Mapping[str, Measured]) -> None:
    """Draw one panel of bars for each part of the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = {
        what: [row for row in ranked(measured) if row[1].images_per_s and not row[1].not_measured]
        for what, measured in results.items()
    }
    heights = [len(rows) for rows in shown.values()]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(9, 1.2 + 0.36 * sum(heights)), squeeze=False, height_ratios=heights
    )
    for axis, (what, rows) in zip(axes[:, 0], shown.items(), strict=True):
        _draw_bars(axis, rows)
        axis.set_title(TITLES[what], loc="left", fontsize=11)
    axes[-1, 0].set_xlabel(
        "images/s, median, lowest to highest; pale: limits, which do nothing but the inner work"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _colour(name: str) -> str:
    if name == OURS:
        return _OURS_COLOUR
    return _LIMITS_COLOUR if _BY_NAME[name].limit else _OTHERS_COLOUR


def _draw_bars(axis: pyplot.Axes, rows: Sequence[tuple[str, Figures]]) -> None:
    names = [name for name, _ in rows][::-1]
    rates = [figures.images_per_s for _, figures in rows][::-1]
    medians = [statistics.median(rate) for rate in rates]
    spread = [
        [median - min(rate) for median, rate in zip(medians, rates, strict=True)],
        [max(rate) - median for median, rate in zip(medians, rates, strict=True)],
    ]
    axis.barh(
        names,
        medians,
        color=[_colour(name) for name in names],
        xerr=spread,
        error_kw={"elinewidth": 1, "ecolor": "#334155"},
    )
    for position, (rate, median) in enumerate(zip(rates, medians, strict=True)):
        axis.annotate(
            f"{median:,.0f}",
            (max(rate), position),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.set_xlim(0, 1.15 * max(max(rate) for rate in rates))
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_formatter("{x:,.0f}")

"""Figures of a benchmark -> a table on screen, results.md and results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown


@dataclass(frozen=True)
class Figures:
    """Medians of a candidate's runs; memory is the highest of any run."""

    files: int
    runs: int
    seconds: float
    images_per_s: float
    lowest_images_per_s: float
    highest_images_per_s: float
    cpu_s_per_1000: float
    worker_bytes: int
    launcher_bytes: int
    events_s: dict[str, float]


@dataclass(frozen=True)
class Goal:
    """One figure and what is wanted of it; without a limit it is told for information."""

    name: str
    value: float
    limit: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Return `met`, `missed` or nothing."""
        if self.limit is None:
            return ""
        return "met" if (self.value <= self.limit if self.at_most else self.value >= self.limit) else "missed"


# Name with version, what it writes, its figures, and why it has none.
Row = tuple[str, str, Figures | None, str]
HEADINGS = (
    "way",
    "files",
    "seconds",
    "images/s",
    "CPU-s per 1,000",
    "of the bare pool",
    "largest process",
    "writes",
)


def write_report(
    folder: Path, *, title: str, facts: Sequence[str], rows: Sequence[Row], goals: Sequence[Goal]
) -> None:
    """Print the table and leave it as results.md and results.json; the first row is the measure."""
    pool = rows[0][2]
    lines = [
        f"### {title}",
        "",
        ", ".join(facts),
        "",
        *markdown_table(HEADINGS, [_cells(row, pool) for row in rows]),
    ]
    lines += ["", *goal_lines(goals)]
    write_results(
        folder,
        lines,
        {
            "title": title,
            "facts": list(facts),
            "rows": [
                {
                    "way": name,
                    "writes": writes,
                    "not_measured": reason,
                    **(asdict(figures) if figures else {}),
                }
                for name, writes, figures, reason in rows
            ],
            "goals": goals_as_json(goals),
        },
    )


def write_results(folder: Path, lines: Sequence[str], results: dict[str, object]) -> None:
    """Print Markdown and leave it beside the same as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console = Console()
    console.print(Markdown(text) if console.is_terminal else text, markup=False, soft_wrap=True)
    print(f"{folder / 'results.md'}, {folder / 'results.json'}")


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    """Return a line for each figure with its limit and whether it is kept."""
    return markdown_table(
        ("figure", "value", "wanted", ""),
        [
            (
                goal.name,
                f"{goal.value:,.0f}" if goal.value >= 100 else f"{goal.value:.2f}",
                "" if goal.limit is None else f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}",
                goal.verdict,
            )
            for goal in goals
        ],
    )


def goals_as_json(goals: Sequence[Goal]) -> list[dict[str, object]]:
    """Return goals and verdicts as plain values."""
    return [{**asdict(goal), "verdict": goal.verdict} for goal in goals]


def _cells(row: Row, pool: Figures | None) -> list[str]:
    name, writes, figures, reason = row
    if figures is None:
        return [name, "", "", reason, "", "", "", writes]
    spread = ""
    if figures.runs > 1:
        spread = f" ({figures.lowest_images_per_s:.0f} to {figures.highest_images_per_s:.0f})"
    return [
        name,
        f"{figures.files:,}",
        f"{figures.seconds:.1f}",
        f"{figures.images_per_s:.0f}{spread}",
        f"{figures.cpu_s_per_1000:.2f}",
        f"{figures.images_per_s / pool.images_per_s:.2f}" if pool else "",
        f"{max(figures.worker_bytes, figures.launcher_bytes) / 1e6:.0f} MB",
        writes,
    ]

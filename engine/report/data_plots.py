"""The plots of a data set, each a matplotlib figure of its own; what they show is `data_counts`' to count.

N = images, S = 3 splits in `splits.SPLITS` order, F = 14 findings in `labels.FINDINGS` order. Inks and type
are `plots`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    MultipleLocator,
    NullFormatter,
    NullLocator,
)

from engine.report.contact_sheet import in_words
from engine.report.plots import FIRST, INK, MARK, MUTED, RULE, SECOND, STYLE
from records.labels import FINDINGS, NO_FINDING
from records.splits import SPLITS

AGE_BIN_YEARS = 5
OLDEST_YEARS = 120
_COLOURS = dict(zip(SPLITS, (FIRST, MARK, SECOND), strict=True))
_MARKERS = dict(zip(SPLITS, ("o", "D", "s"), strict=True))
# Half of the page's width, and all of a phone's.
_WIDTH_IN = 4.2
_PERCENT_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
# Darker cells would swallow their numbers.
_DARKEST = 0.7


@mpl.rc_context(STYLE)
def images_per_finding(images: np.ndarray, total: int) -> Figure:
    """Plot the images with each finding, most frequent first, and with none, coloured by split.

    Args:
        images: (S, F + 1) as `data_counts.images_by_finding` gives them.
        total: N.
    """
    order = [*np.argsort(-images[:, :-1].sum(axis=0), kind="stable").tolist(), len(FINDINGS)]
    figure, ax = _figure(4.5)
    _stack(ax, dict(zip(SPLITS, images[:, order], strict=True)), _COLOURS)
    _name_rows(ax, [in_words((*FINDINGS, NO_FINDING)[column]) for column in order])
    _write_beside(ax, [_with_share(int(images[:, column].sum()), total) for column in order], 0.44)
    _count_axis(ax, "images")
    _legend_above(ax)
    return figure


@mpl.rc_context(STYLE)
def positives_and_negatives(positives: np.ndarray, total: int) -> Figure:
    """Plot which share of the images has each finding, and which hasn't.

    Args:
        positives: (F,) images with each finding.
        total: N, at least 1.
    """
    shares = 100 * positives / total
    figure, ax = _figure(4.5)
    _stack(ax, {"with": shares, "without": 100 - shares}, {"with": FIRST, "without": RULE})
    _name_rows(ax, [in_words(finding) for finding in FINDINGS])
    _write_beside(ax, [f"{share:.2f} / {100 - share:.2f}" for share in shares], 0.36)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("share of the images, %")
    _legend_above(ax)
    return figure


@mpl.rc_context(STYLE)
def findings_per_image(images: np.ndarray) -> Figure:
    """Plot how many images have 0, 1, 2, ... findings.

    Args:
        images: (K,) as `data_counts.findings_per_image` gives them.
    """
    figure, ax = _figure(3.0)
    ax.barh(np.arange(len(images)), images, color=FIRST, height=0.72)
    _name_rows(ax, [str(number) for number in range(len(images))])
    _write_beside(ax, [_with_share(number, int(images.sum())) for number in images.tolist()], 0.4)
    _count_axis(ax, "images")
    ax.set_ylabel("findings in the image")
    return figure


@mpl.rc_context(STYLE)
def images_per_patient(names: Sequence[str], patients: np.ndarray) -> Figure:
    """Plot how many patients have 1, 2, 3, ... images.

    Args:
        names: of the groups of patients.
        patients: in each group, as `data_counts.patient_groups` gives them.
    """
    figure, ax = _figure(3.0)
    ax.barh(np.arange(len(patients)), patients, color=FIRST, height=0.72)
    ax.set_xscale("log")
    # From below 1, so that a single patient is a bar; far enough to write beside the longest.
    most = max(1, int(patients.max()))
    ax.set_xlim(0.5, 0.5 * (2.0 * most) ** 1.5)
    _name_rows(ax, names)
    for place, number in enumerate(patients.tolist()):
        text = _with_share(number, int(patients.sum()))
        ax.text(max(number, 0.5) * 1.08, place, text, va="center", color=INK, fontsize=8.2)
    powers = [10**power for power in range(10) if 10**power <= most]
    ax.xaxis.set_major_locator(FixedLocator(powers))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlabel("patients (logarithmic)")
    ax.set_ylabel("images of the patient")
    return figure


@mpl.rc_context(STYLE)
def prevalence(shares: np.ndarray, overall: np.ndarray, few: np.ndarray) -> Figure:
    """Compare the prevalence of each finding across the splits; the upright line is that of all images.

    Args:
        shares: (S, F) from 0 to 1, NaN in a split without images.
        overall: (F,) from 0 to 1.
        few: (S, F) bool, drawn hollow.
    """
    figure, ax = _figure(5.2)
    percent, places = 100 * shares, np.arange(len(FINDINGS))
    left, right = _percent_range(np.append(percent, 100 * overall))
    ax.set_xscale("log")
    ax.set_xlim(left, right)
    # A share of 0 has no place on this scale and stands on its edge.
    ax.scatter(
        np.maximum(100 * overall, left), places, marker="|", s=150, color=INK, linewidth=1.2, label="all"
    )
    for row, name in enumerate(SPLITS):
        if np.isfinite(percent[row]).any():
            look = {"marker": _MARKERS[name], "s": 20, "clip_on": False, "zorder": 3}
            faces = np.where(few[row], "none", _COLOURS[name])
            # A little apart, so that equal shares don't hide each other.
            heights = places + (row - 1) * 0.24
            ax.scatter(
                np.maximum(percent[row], left), heights, facecolors=faces, edgecolors=_COLOURS[name], **look
            )
            ax.scatter([], [], color=_COLOURS[name], label=name, **look)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in _PERCENT_TICKS if left <= tick <= right]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _name_rows(ax, [in_words(finding) for finding in FINDINGS])
    ax.grid(axis="both")
    # Marks on the edge must not touch the names.
    ax.tick_params(axis="y", pad=8)
    ax.set_xlabel("share of the split's images, % (logarithmic)")
    _legend_above(ax)
    return figure


@mpl.rc_context(STYLE)
def ages(age_years: Mapping[str, np.ndarray]) -> Figure:
    """Plot the images by age, a curve of steps for each sex.

    Args:
        age_years: known ages of the images of each sex, by its name.
    """
    edges = np.arange(0, OLDEST_YEARS + AGE_BIN_YEARS, AGE_BIN_YEARS)
    figure, ax = _figure(3.3)
    oldest = AGE_BIN_YEARS
    for (name, known), colour in zip(age_years.items(), (SECOND, FIRST, MARK), strict=False):
        if len(known):
            images = np.histogram(np.minimum(known, OLDEST_YEARS), edges)[0]
            ax.stairs(images, edges, fill=True, color=colour, alpha=0.15)
            ax.stairs(images, edges, color=colour, linewidth=1.6, label=f"{name}, {len(known):,} images")
            oldest = max(oldest, int(edges[np.flatnonzero(images)[-1] + 1]))
    ax.set_xlim(0, oldest)
    ax.set_ylim(bottom=0)
    _count_axis(ax, "images", which="y")
    ax.xaxis.set_major_locator(MultipleLocator(10))
    ax.set_xlabel(f"age in years, in steps of {AGE_BIN_YEARS}")
    ax.grid(axis="y")
    ax.tick_params(length=0)
    if len(ax.get_legend_handles_labels()[0]):
        _legend_above(ax)
    return figure


@mpl.rc_context(STYLE)
def sex_and_view(groups: Mapping[str, np.ndarray]) -> Figure:
    """Compare sex and view across the splits, in shares of each split's images.

    Args:
        groups: (S,) images of each group, `female`, `male`, `PA view`, `AP view` and perhaps others, by name.
    """
    figure, _ = _figure(3.3, rows=2)
    for ax, word in zip(figure.axes, ("sex", "view"), strict=True):
        named = {
            name: images
            for name, images in groups.items()
            if name.endswith("view") == (word == "view") and images.any()
        }
        whole = np.maximum(1, sum(named.values(), np.zeros(len(SPLITS), np.int64)))
        shares = {name: 100 * images / whole for name, images in named.items()}
        _stack(ax, shares, dict(zip(shares, (SECOND, FIRST, MARK), strict=False)), opacity=0.45)
        _write_inside(ax, shares)
        _name_rows(ax, SPLITS)
        ax.set_xlim(0, 100)
        ax.set_xticks([0, 25, 50, 75, 100])
        _legend_above(ax)
    figure.axes[-1].set_xlabel("share of the split's images, %")
    return figure


@mpl.rc_context(STYLE)
def together(shares: np.ndarray, images: np.ndarray) -> Figure:
    """Plot which findings go together: the share of a row's images that have the column's finding as well.

    Args:
        shares: (F, F) as `data_counts.together` gives them.
        images: (F,) with each finding.
    """
    figure = Figure(figsize=(9.3, 6.0), layout="constrained")
    ax = figure.subplots()
    for row, column in np.ndindex(shares.shape):
        share, alone = shares[row, column], row == column
        colour = SECOND if alone else FIRST
        ax.add_patch(
            Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, linewidth=0, facecolor=colour)
        ).set_alpha(_DARKEST * float(np.nan_to_num(share)))
        ink = INK if share >= 0.05 else MUTED
        ax.text(column, row, _whole_percent(share), ha="center", va="center", color=ink, fontsize=8)
    places = np.arange(len(FINDINGS))
    ax.set(xlim=(-0.5, len(FINDINGS) - 0.5), ylim=(len(FINDINGS) - 0.5, -0.5))
    names = [in_words(finding) for finding in FINDINGS]
    rows = [f"{name} ({number:,})" for name, number in zip(names, images.tolist(), strict=True)]
    ax.set_yticks(places, rows, color=INK)
    ax.set_xticks(places, names, color=INK, rotation=40, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_ylabel("images with this finding ...")
    ax.set_title("... of which so many % also have this one", color=MUTED, fontsize=8.5, pad=10)
    return figure


def _figure(height_in: float, rows: int = 1) -> tuple[Figure, Axes]:
    """Return a figure of the usual width and its first axes."""
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots(rows, squeeze=False)[0, 0]


def _stack(
    ax: Axes, parts: Mapping[str, np.ndarray], colours: Mapping[str, str], opacity: float | None = None
) -> None:
    """Draw rows of bars, each made of parts that begin where the last one ended."""
    start = np.zeros(len(next(iter(parts.values()), ())))
    for name, lengths in parts.items():
        ax.barh(
            np.arange(len(lengths)),
            lengths,
            left=start,
            color=colours[name],
            height=0.72,
            label=name,
            alpha=opacity,
        )
        start = start + lengths


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(np.arange(len(names)), names, color=INK)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.spines["left"].set_visible(False)


def _write_beside(ax: Axes, texts: Sequence[str], room: float) -> None:
    """Write a text behind each row of bars; `room` is its share of the plot's width."""
    ends = np.zeros(len(texts))
    for bar in ax.patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        ends[place] = max(ends[place], bar.get_x() + bar.get_width())
    longest = max(ends.max(), 1)
    ax.set_xlim(0, longest / (1 - room))
    for place, text in enumerate(texts):
        ax.text(ends[place] + 0.015 * longest, place, text, va="center", color=INK, fontsize=8.2)


def _write_inside(ax: Axes, shares: Mapping[str, np.ndarray]) -> None:
    start = np.zeros(len(SPLITS))
    for share in shares.values():
        for place in np.flatnonzero(share >= 8):
            ax.text(
                start[place] + share[place] / 2,
                place,
                f"{share[place]:.1f}",
                ha="center",
                va="center",
                color=INK,
                fontsize=8.2,
            )
        start = start + share


def _with_share(number: int, total: int) -> str:
    percent = f"{100 * number / max(1, total):.2f}"
    return f"{number:,} · {'<0.01' if number and percent == '0.00' else percent} %"


def _whole_percent(share: float) -> str:
    if not np.isfinite(share):
        return "–"
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def _percent_range(percent: np.ndarray) -> tuple[float, float]:
    """Return limits for a logarithmic scale that holds every positive number with some room."""
    positive = percent[np.isfinite(percent) & (percent > 0)]
    if not len(positive):
        return 1.0, 100.0
    return float(max(1e-4, positive.min() / 1.6)), float(positive.max() * 1.3)


def _count_axis(ax: Axes, unit: str, which: str = "x") -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_label_text(unit)


def _legend_above(ax: Axes) -> None:
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0,
        borderpad=0.2,
        handlelength=1,
        handletextpad=0.5,
        columnspacing=1.4,
        scatterpoints=1,
    )

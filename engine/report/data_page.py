"""`engine inspect --report`: one self-contained HTML page with pictures of a data set.

What is counted stands in `data_counts`, how it is drawn in `data_plots`; this module puts them together and
chooses the sample images. The page asks the network for nothing: style, plots and images stand in the file.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup

from engine.input import cache
from engine.report import (
    contact_sheet,
    data_counts,
    data_plots,
    plots,
    record_columns,
    stored_records,
    template,
)
from engine.report.record_columns import Columns
from records import class_weights, example, picture, storage
from records.errors import UsageError
from records.labels import FINDINGS, NO_FINDING
from records.manifest import Manifest
from records.splits import SPLITS

SAMPLES = 4
COMBINATIONS = 12
UNDEFINED = "not defined"
_SAMPLE_SEED = 0
_SAMPLE_SIDE_PX = 320


class _Found(NamedTuple):
    """A data set and what its records say."""

    data_set: Manifest
    splits: dict[str, Columns]
    every: Columns
    images: np.ndarray  # (S, F + 1), as `data_counts.images_by_finding` gives them
    patients: np.ndarray  # (S, F), as `data_counts.patients_by_finding` gives them


def write(data_set: Manifest, output: str | Path) -> Path:
    """Write the page.

    Args:
        data_set: the manifest; of a remote one every shard is fetched to the cache.
        output: of the page; its folder is made.

    Returns:
        The page's path.

    Raises:
        UsageError: the data set holds no image.
        CxrError: a part of the data set is missing or damaged, or the page can't be written.
    """
    if not any(split.images for split in data_set.splits.values()):
        raise UsageError(f"{data_set.location}: the data set holds no image; nothing to show")
    splits = record_columns.read(data_set)
    found = _Found(
        data_set,
        splits,
        record_columns.joined(splits.values()),
        data_counts.images_by_finding(splits),
        data_counts.patients_by_finding(splits),
    )
    page = _render(found, functools.partial(cache.local_path, data_set))
    storage.write_bytes(str(output), page.encode())
    return Path(output)


def _render(found: _Found, locate: stored_records.Locate) -> str:
    data_set = found.data_set
    sampled = next(name for name in SPLITS if data_set.splits[name].images)
    return template.render(
        "data.html.j2",
        data_set=data_set,
        kind=template.kind_of_split(data_set),
        phantom=bool(data_set.source.get("phantom")),
        total=len(found.every),
        headline=_headline(found),
        findings=_finding_rows(found),
        few_patients=data_counts.FEW_PATIENTS,
        groups=_group_rows(found),
        ages_unknown=int((~data_counts.known_ages(found.every)).sum()),
        most_images=int(data_counts.images_per_patient(found.every).max()),
        combinations=_combination_rows(found.every),
        weights=_weight_rows(data_set),
        plots={name: Markup(plots.to_svg(figure, name)) for name, figure in _figures(found).items()},
        sampled=sampled,
        samples=_samples(data_set, sampled, found.splits[sampled], locate),
        data_rows=template.data_facts(data_set),
        origin=_origin(data_set),
    )


def _headline(found: _Found) -> list[tuple[str, str]]:
    """Return (number, what it is) for the head of the page."""
    healthy = int(found.images[:, -1].sum())
    counted = data_counts.findings_per_image(found.every)
    mean = (counted * np.arange(len(counted))).sum() / len(found.every)
    return [
        (template.count(len(np.unique(found.every.patient_ids))), "patients"),
        (f"{100 * healthy / len(found.every):.1f} %", "of the images with no finding"),
        (f"{mean:.2f}", "findings an image, on average"),
        (template.count(found.data_set.patients_in_two_splits), "patients in two splits"),
    ]


def _finding_rows(found: _Found) -> list[dict[str, Any]]:
    """Return each finding's images, patients and prevalence by split, and those of no finding."""
    rows = []
    for column, finding in enumerate((*FINDINGS, NO_FINDING)):
        cells = []
        for row, name in enumerate(SPLITS):
            has_finding = finding != NO_FINDING
            healthy = ~found.splits[name].labels.any(axis=1)
            patients = (
                int(found.patients[row, column])
                if has_finding
                else len(np.unique(found.splits[name].patient_ids[healthy]))
            )
            cells.append(_cell(int(found.images[row, column]), patients, len(found.splits[name])))
            cells[-1]["few"] = has_finding and patients < data_counts.FEW_PATIENTS
        images = int(found.images[:, column].sum())
        rows.append({"name": finding, "cells": [*cells, _cell(images, None, len(found.every))]})
    return rows


def _cell(images: int, patients: int | None, whole: int) -> dict[str, Any]:
    return {"images": images, "patients": patients, "share": images / whole if whole else None, "few": False}


def _group_rows(found: _Found) -> list[dict[str, Any]]:
    """Return images and patients of each sex, view and kind of visit, by split; groups of nobody left out."""
    by_split = {name: data_counts.circumstances(columns) for name, columns in found.splits.items()}
    rows = []
    for group in next(iter(by_split.values())):
        cells = [
            (int(held[group].sum()), len(np.unique(found.splits[name].patient_ids[held[group]])))
            for name, held in by_split.items()
        ]
        if any(images for images, _ in cells):
            rows.append({"name": group, "cells": cells})
    return rows


def _combination_rows(every: Columns) -> list[tuple[str, int, float]]:
    """Return (findings in words, images, share of all images) of the most frequent combinations."""
    return [
        (" + ".join(contact_sheet.in_words(name) for name in cell.split("|")), images, images / len(every))
        for cell, images in data_counts.frequent_combinations(every.labels, COMBINATIONS)
    ]


def _weight_rows(data_set: Manifest) -> list[tuple[str, int, int, str, str]]:
    """Return (finding, n+, n-, w+, w-) of the training split."""
    train = data_set.splits["train"]
    weights = class_weights.balanced(train.positives, train.images)
    rows = []
    # A manifest that was read holds its findings by the alphabet.
    for finding in FINDINGS:
        having = train.positives[finding]
        written = (_weight(weights[finding]["positive"]), _weight(weights[finding]["negative"]))
        rows.append((finding, having, train.images - having, *written))
    return rows


def _weight(weight: float | None) -> str:
    return UNDEFINED if weight is None else f"{weight:,.4f}"


def _figures(found: _Found) -> dict[str, Any]:
    total, every = len(found.every), found.every
    positives = found.images[:, :-1].sum(axis=0)
    sizes = np.array([len(columns) for columns in found.splits.values()])[:, None]
    shares = np.divide(
        found.images[:, :-1], sizes, out=np.full(found.patients.shape, np.nan), where=sizes > 0
    )
    known = data_counts.known_ages(every)
    groups = [data_counts.circumstances(columns) for columns in found.splits.values()]
    by_group = {name: np.array([held[name].sum() for held in groups]) for name in groups[0]}
    named = data_counts.circumstances(every)
    return {
        "counts": data_plots.images_per_finding(found.images, total),
        "balance": data_plots.positives_and_negatives(positives, total),
        "findings": data_plots.findings_per_image(data_counts.findings_per_image(every)),
        "patients": data_plots.images_per_patient(
            *data_counts.patient_groups(data_counts.images_per_patient(every))
        ),
        "prevalence": data_plots.prevalence(
            shares, positives / total, found.patients < data_counts.FEW_PATIENTS
        ),
        "ages": data_plots.ages(
            {name: every.age_years[named[name] & known] for name in ("female", "male", "other sex")}
        ),
        "sex_and_view": data_plots.sex_and_view(
            {name: images for name, images in by_group.items() if name.endswith(("male", "sex", "view"))}
        ),
        "together": data_plots.together(data_counts.together(every.labels), positives),
    }


def _samples(
    data_set: Manifest, split: str, columns: Columns, locate: stored_records.Locate
) -> list[dict[str, Any]]:
    """Return some images of each finding, and of none, as the page shows them."""
    chosen = {finding: _choose(columns, finding) for finding in (*FINDINGS, NO_FINDING)}
    # Each record is read once, however many findings it is shown for.
    wanted = np.unique(np.concatenate(list(chosen.values())))
    records = stored_records.read_records(data_set, split, columns.rows[wanted], locate)
    shown = {place: _sample(record) for place, record in zip(wanted.tolist(), records, strict=True)}
    return [
        {"finding": finding, "pictures": [shown[place] for place in places.tolist()]}
        for finding, places in chosen.items()
    ]


def _choose(columns: Columns, finding: str) -> np.ndarray:
    """Return (at most `SAMPLES`,) places of images with a finding, of as many patients; always the same."""
    if finding == NO_FINDING:
        having = np.flatnonzero(~columns.labels.any(axis=1))
        number = len(FINDINGS)
    else:
        number = FINDINGS.index(finding)
        having = np.flatnonzero(columns.labels[:, number])
    shuffled = np.random.default_rng([_SAMPLE_SEED, number]).permutation(having)
    first = np.unique(columns.patient_ids[shuffled], return_index=True)[1]
    return shuffled[np.sort(first)[:SAMPLES]]


def _sample(record: example.Record) -> dict[str, str]:
    grey = picture.decode(record)[..., 0]
    longest = max(grey.shape)
    if longest > _SAMPLE_SIDE_PX:
        scale = _SAMPLE_SIDE_PX / longest
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return {
        "source": template.picture_source(grey),
        "image_id": record.image_id,
        "circumstances": contact_sheet.circumstances(record),
        "findings": contact_sheet.findings(record),
    }


def _origin(data_set: Manifest) -> list[tuple[str, str]]:
    """Return what names this data set exactly."""
    source = data_set.source
    return [
        ("Manifest", f"sha256 {data_set.sha256}"),
        ("Label table", f"sha256 {source.get('table_sha256', 'not recorded')}"),
        ("Made with", ", ".join(f"{name} {version}" for name, version in data_set.versions.items())),
    ]

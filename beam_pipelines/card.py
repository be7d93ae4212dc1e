"""`DATASET.md`: the manifest as a page that a person reads, with a datasheet's questions answered.

The questions follow Gebru et al., "Datasheets for Datasets" (CACM 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from records.labels import FINDINGS
from records.manifest import LeftOut, Manifest
from records.splits import SPLITS

# How many images a reason shows by name; the files beside the card name all.
_SHOWN = 3


def render(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    sections = {
        "Splits": [*_split_table(manifest), "", *_leakage(manifest)],
        "Findings": _finding_table(manifest),
        "Class weights": _weight_table(manifest),
        "What was left out, and what is unusual": _left_out(manifest),
        "Datasheet": _phantom_datasheet() if manifest.source["phantom"] else _datasheet(manifest),
        "Licence and attribution": [
            manifest.licence,
            *([] if manifest.source["phantom"] else ["", manifest.citation]),
        ],
    }
    lines = _summary(manifest)
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join([*lines, ""])


def _summary(manifest: Manifest) -> list[str]:
    source, image, split = manifest.source, manifest.image, manifest.split
    pixels = manifest.statistics
    images = sum(manifest.splits[name].images for name in SPLITS)
    quality = f" of quality {image['jpeg_quality']}" if "jpeg_quality" in image else ""
    lines = [
        "# Data set",
        "",
        f"- Images: {images:,} of the {source['rows']:,} in `{source['table']}` "
        f"(release {source['release']}, told by its content); {source['missing']:,} were not there, "
        f"{len(manifest.quarantined):,} failed the checks (`quarantine.csv`), "
        f"{len(manifest.excluded):,} were excluded by a list.",
        f"- Stored: {image['side_px']} x {image['side_px']}, {image['stored_channels']} channel(s) of uint8, "
        f"{image['encoding']}{quality}, reduced by {image['resize_kernel']}.",
        "- Split: "
        + ", ".join(f"{key} {value}" for key, value in sorted(split.items()) if not isinstance(value, dict))
        + ".",
    ]
    if None not in (pixels["mean"], pixels["deviation"]):
        lines.append(
            f"- Training pixels: mean {pixels['mean']:.4f}, deviation {pixels['deviation']:.4f} (0 to 255)."
        )
    return [
        *lines,
        f"- Table: sha256 `{source['table_sha256']}`; request `{manifest.request_sha256}`.",
        "- Made with "
        + ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
        + ".",
        f"- Labels of a record: {', '.join(FINDINGS)}, in this order.",
    ]


def _split_table(manifest: Manifest) -> list[str]:
    rows = ["| split | images | patients | shards | MB |", "| --- | --- | --- | --- | --- |"]
    for name in SPLITS:
        split = manifest.splits[name]
        megabytes = sum(shard.size_bytes for shard in split.shards) / 1e6
        rows.append(
            f"| {name} | {split.images:,} | {split.patients:,} | {len(split.shards)} | {megabytes:,.1f} |"
        )
    return rows


def _leakage(manifest: Manifest) -> list[str]:
    copies = (
        "Images that are pixel for pixel the same as another one were kept, as asked for: "
        "two splits may share such an image."
        if manifest.source.get("duplicates_allowed")
        else "No two records hold the same pixels: all originals were compared."
    )
    return [
        f"Patients with records in two splits: {manifest.patients_in_two_splits}, "
        "counted from the records as written.",
        copies,
    ]


def _finding_table(manifest: Manifest) -> list[str]:
    heads = " | ".join(f"{name}: images (patients), prevalence" for name in SPLITS)
    rows = [f"| finding | {heads} |", "| --- " * 4 + "|"]
    for finding in FINDINGS:
        cells = [
            f"{split.positives[finding]:,} ({split.positive_patients[finding]:,}), "
            f"{split.prevalence[finding]:.2%}"
            for split in (manifest.splits[name] for name in SPLITS)
        ]
        rows.append(f"| {finding} | {' | '.join(cells)} |")
    return rows


def _weight_table(manifest: Manifest) -> list[str]:
    rows = [
        "Of the training split: w+ = N / 2 n+ and w- = N / 2 n-.",
        "",
        "| finding | w- | w+ |",
        "| --- | --- | --- |",
    ]
    for finding in manifest.findings if manifest.class_weights else ():
        weights = manifest.class_weights[finding]
        cells = [
            "not defined" if weight is None else f"{weight:.4f}"
            for weight in (weights["negative"], weights["positive"])
        ]
        rows.append(f"| {finding} | {cells[0]} | {cells[1]} |")
    return rows


def _left_out(manifest: Manifest) -> list[str]:
    lines = [
        *_by_reason("failed the checks", manifest.quarantined),
        *_by_reason("excluded", manifest.excluded),
        *(
            f"- {count:,} converted and noted (`oddities.csv`): {oddity}"
            for oddity, count in sorted(manifest.oddities.items())
        ),
    ]
    return lines or ["Nothing."]


def _by_reason(what: str, entries: Sequence[LeftOut]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(entry.image_id)
    return [
        f"- {len(names):,} {what}: {reason} ({', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)})"
        for reason, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _phantom_datasheet() -> list[str]:
    return ["Phantom data: drawn, not patients. Nothing medical follows from it."]


def _datasheet(manifest: Manifest) -> list[str]:
    """Answer the questions of a datasheet as far as they are known of the NIH's data and of this version."""
    release = manifest.source["release"]
    answers = {
        "Why were the data collected, and by whom?": (
            "The NIH Clinical Center took frontal chest X-rays from its hospital's archive (1992 to 2015)"
            " to make detection and localization of common findings a research problem at hospital scale."
        ),
        "What is a record?": (
            "One frontal radiograph (PA or AP), reduced from a PNG of the NIH's (1024 x 1024, 8-bit), "
            "with 14 findings, patient number, age, sex, view and follow-up number. It is not the DICOM "
            "original: its range of 8 bits was set by the NIH."
        ),
        "How were the labels made?": (
            "By text analysis of the radiologists' reports, which are not public; several findings may "
            "stand together, and none of them means `No Finding`."
        ),
        "How noisy are the labels?": (
            "The NIH expects more than 90 % to be right. Radiologists who re-read samples found many "
            "wrong, least reliable for Infiltration, Pneumonia and Consolidation. Chest drains in the "
            "picture give many a pneumothorax away: a model may find the treatment and not the finding."
        ),
        "Which release of the labels is this?": (
            f"{release}. The NIH corrected the first release (2017) in 2020; both have been published "
            "under the same file name, so the release was told by the content of the table."
        ),
        "Whom do the data show?": (
            "The whole set: 30,805 patients of one research hospital in Bethesda, USA, of all ages; "
            "17,503 of them once, one 184 times. Patients of such a hospital are sicker than those of a "
            "screening, and ethnicity isn't recorded."
        ),
        "Could a patient be recognised?": (
            "Names and dates were removed by the NIH before publication; the patient number is the NIH's "
            "own. Do not try to find out who a patient is."
        ),
        "How were the splits made?": (
            f"Strategy `{manifest.split['strategy']}`, by patient. The official test list has twice the "
            "prevalence of train_val and more images a patient: scores on different kinds of split must "
            "not stand in one table."
        ),
        "What must the data not be used for?": (
            "Diagnosis or any decision about a person. A model trained on them is no medical device."
        ),
        "How were they prepared?": (
            "Each PNG was read to its end, checked (kind, size, grey, not of one value), reduced by area "
            "and written once. This page and `manifest.json` are all that was derived."
        ),
        "Where do they come from, and who keeps them?": (
            "https://nihcc.app.box.com/v/ChestXray-NIHCC, kept by the NIH Clinical Center."
        ),
    }
    return [line for question, answer in answers.items() for line in (f"**{question}** {answer}", "")][:-1]

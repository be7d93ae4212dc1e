"""`DATASET.md`: the manifest as a page that a person reads."""

from __future__ import annotations

from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS

_NOISE = (
    "The labels were mined from radiology reports by text analysis. The NIH expects them to be more than "
    "90 % accurate; radiologists who re-read samples found many of them wrong, least reliable for "
    "Infiltration, Pneumonia and Consolidation. Chest drains in the picture give many a pneumothorax away."
)


def render(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    return "\n".join(
        [
            *_summary(manifest),
            "",
            "## Splits",
            "",
            *_split_table(manifest),
            "",
            f"Patients with records in two splits: {manifest.patients_in_two_splits}, "
            "counted from the records as written.",
            "",
            "## Findings",
            "",
            *_finding_table(manifest),
            "",
            "## Known limits",
            "",
            "Phantom data: drawn, not patients. Nothing medical follows from it."
            if manifest.source["phantom"]
            else _NOISE,
            "",
            "## Licence and attribution",
            "",
            manifest.licence,
            *([] if manifest.source["phantom"] else ["", manifest.citation]),
            "",
        ]
    )


def _summary(manifest: Manifest) -> list[str]:
    source, image, split = manifest.source, manifest.image, manifest.split
    pixels = manifest.statistics
    images = sum(manifest.splits[name].images for name in SPLITS)
    lines = [
        "# Data set",
        "",
        f"- Images: {images:,} of the {source['rows']:,} in `{source['table']}` "
        f"(release {source['release']}); {source['missing']:,} were not there, "
        f"{len(manifest.quarantined):,} could not be read (`quarantine.csv`).",
        f"- Stored: {image['side_px']} x {image['side_px']}, {image['stored_channels']} channel(s) of uint8, "
        f"{image['encoding']}, reduced by {image['resize_kernel']}.",
        "- Split: "
        + ", ".join(f"{key} {value}" for key, value in split.items() if not isinstance(value, dict))
        + ".",
    ]
    if pixels["pixels"]:
        lines.append(
            f"- Training pixels: mean {pixels['mean']:.4f}, deviation {pixels['deviation']:.4f} (0 to 255)."
        )
    return [
        *lines,
        f"- Table: sha256 `{source['table_sha256']}`; request `{manifest.request_sha256}`.",
        "- Made with " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) + ".",
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

"""What was judged on: splits, prevalence, the proof that no patient stands in two, hashes, licence."""

from __future__ import annotations

from markupsafe import Markup

from engine.report import cells, plots, template
from engine.report.contact_sheet import in_words
from engine.report.document import Block, Column, Facts, Figures, Panel, Paragraph, Section, Table
from engine.report.run_files import RunFiles
from records.labels import FINDINGS
from records.manifest import Manifest
from records.splits import SPLITS


def section(run: RunFiles) -> Section:
    """Build the section."""
    if run.data_set is None:
        where = f"The data set's manifest wasn't found ({run.no_data_set}): name it with "
        return Section(
            "data",
            "Data set",
            [Paragraph(f"{where}`{run.make('report', '--data MANIFEST')}`.", look="missing")],
        )
    return Section("data", "Data set", _blocks(run.data_set))


def _blocks(data_set: Manifest) -> list[Block]:
    figure = Markup(plots.to_svg(plots.prevalence(data_set), "prevalence"))
    hashes = [
        ("Manifest", f"sha256 {data_set.sha256}"),
        ("Label table", f"sha256 {data_set.source.get('table_sha256', 'not recorded')}"),
        ("Request", f"sha256 {data_set.request_sha256}"),
    ]
    return [
        _splits(data_set),
        Paragraph(_leakage(data_set)),
        Facts("card", template.data_facts(data_set), heading="Card"),
        Facts("hashes", hashes, heading="Hashes"),
        Figures(
            "prevalence",
            [Panel("", figure)],
            "Share of the images with each finding, by split. Where the marks of a finding stand apart, "
            "precision and calibration change from split to split; ranking (AUROC) doesn't suffer from it "
            "by itself.",
            heading="Prevalence",
            look="one",
        ),
        _findings(data_set),
        Paragraph(
            data_set.licence + ("" if data_set.source.get("phantom") else " " + data_set.citation), "note"
        ),
    ]


def _leakage(data_set: Manifest) -> str:
    shared = data_set.patients_in_two_splits
    copies = (
        "Pictures that are the same pixel for pixel were kept: two splits may share one."
        if data_set.source.get("duplicates_allowed")
        else "No two records hold the same pixels: all originals were compared."
    )
    return (
        f"**{shared:,} patients stand in two splits**, counted from the records as they were written. "
        f"{copies}"
    )


def _splits(data_set: Manifest) -> Table:
    columns = [
        Column("split", "Split", "text"),
        Column("images", "Images"),
        Column("patients", "Patients"),
        Column("images_a_patient", "Images a patient"),
        Column("shards", "Shards"),
    ]
    rows = []
    for name in SPLITS:
        split = data_set.splits[name]
        rows.append(
            {
                "split": cells.words(name),
                "images": cells.count(split.images),
                "patients": cells.count(split.patients),
                "images_a_patient": cells.number(
                    split.images / split.patients if split.patients else None, 2
                ),
                "shards": cells.count(len(split.shards)),
            }
        )
    return Table("splits", columns, rows)


def _findings(data_set: Manifest) -> Table:
    columns = [Column("finding", "Finding", "text")]
    for name in SPLITS:
        columns += [
            Column(f"{name}_images", "Images", group=name),
            Column(f"{name}_patients", "Patients", group=name),
            Column(f"{name}_prevalence", "%", group=name),
        ]
    rows = []
    for finding in FINDINGS:
        row = {"finding": cells.words(in_words(finding))._replace(value=finding)}
        for name in SPLITS:
            split = data_set.splits[name]
            row[f"{name}_images"] = cells.count(split.positives[finding])
            row[f"{name}_patients"] = cells.count(split.positive_patients[finding])
            row[f"{name}_prevalence"] = cells.percent(split.prevalence[finding], 2)
        rows.append(row)
    return Table("findings", columns, rows, heading="Findings by split")

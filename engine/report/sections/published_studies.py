"""The run beside the published studies: only what shares the kind of split may be compared."""

from __future__ import annotations

from engine.report import cells, published, template
from engine.report.document import Block, Bullets, Cell, Column, Paragraph, Section, Table, missing
from engine.report.published import Anchor, Study
from engine.report.run_files import Evaluation, RunFiles


def section(run: RunFiles) -> Section:
    """Build the section."""
    title = "Beside published studies"
    if run.phantom:
        said = "The pictures were drawn, and to compare phantoms with patients means nothing: no table here."
        return Section("published", title, [Paragraph(said, look="note")])
    if not run.shown:
        return Section("published", title, [missing("No evaluation yet", run.make("evaluate"))])
    findings, studies, anchors = published.load()
    reason = _why_nothing_compares(run, run.shown)
    blocks: list[Block] = [Paragraph(reason, look="warning")] if reason else []
    # Of an unknown kind nothing is like it.
    kind = "unknown" if reason else run.kind_of_split
    blocks += [
        Paragraph(_NOTE if reason else f"{_said(studies, kind)} {_NOTE}"),
        _table(run, run.shown, findings, studies, kind),
        Bullets([_described(study) for study in studies]),
        _anchors(anchors, kind),
    ]
    return Section("published", title, blocks)


_NOTE = (
    "The official test images are harder than a random share of patients: findings are about 1.7 times as "
    "frequent there, and patients have about nine images instead of three. Even two random splits share few "
    "images, and most published numbers come without intervals: a difference within this run’s interval "
    f"says nothing. {cells.FEW_NOTE}"
)
# The conversion leaves out a few unreadable images.
_NEARLY_ALL = 0.99


def _why_nothing_compares(run: RunFiles, shown: Evaluation) -> str:
    """Say why no published number may be compared, whatever its kind of split; nothing if some may."""
    apart = "everything published stands in **grey: other images, which must not be compared**."
    if shown.split != "test":
        return (
            f"**These are {shown.split} images**, on which epochs and thresholds were chosen, while the "
            f"studies tell of test images: {apart}"
        )
    if run.data_set is None and run.kind_of_split != "official":
        return f"**The manifest wasn’t found**, so whether all images were used isn’t known: {apart}"
    part = part_of_list(run)
    return f"**Only {part} were used**: {apart}" if part else ""


def part_of_list(run: RunFiles) -> str:
    """Say which part of the published images a run has, such as `118 of the 25,596 images of the official
    test list`; nothing where it has them all, or where that isn't known."""
    if run.kind_of_split == "official" and run.shown and run.shown.split == "test":
        used, of = run.shown.metrics["images"], published.OFFICIAL_TEST_IMAGES
        if used < _NEARLY_ALL * of:
            return f"{used:,} of the {of:,} images of the official test list"
    if run.data_set is None:
        return ""
    used, of = run.data_set.records, published.ALL_IMAGES
    if run.data_set.source.get("missing") or (run.kind_of_split != "official" and used < _NEARLY_ALL * of):
        return f"{used:,} of the {of:,} images of the data set"
    return ""


def _said(studies: list[Study], kind: str) -> str:
    same = [study.name for study in studies if study.comparable(kind)]
    with_whom = (
        f"Only {' and '.join(same)} {'has' if len(same) == 1 else 'have'} a split of this kind"
        if same
        else "None of these studies is known to have a split of this kind"
    )
    return (
        f"This run’s numbers are of {_article(template.said_kind(kind))}. {with_whom}; "
        f"{'the rest' if same else 'all'} stand in **grey: other images, which must not be compared**."
    )


def _table(run: RunFiles, shown: Evaluation, findings: list[str], studies: list[Study], kind: str) -> Table:
    metrics = shown.metrics
    columns = [
        Column("finding", "Finding", "text"),
        Column("own", f"This run, {shown.split}", group=template.short_kind(run.kind_of_split)),
        *(Column(study.key, _heading(study), group=_group(study)) for study in studies),
    ]
    rows = []
    for finding in findings:
        values = metrics["findings"][finding]
        row = {"finding": cells.finding(finding, few=values["few"])}
        row["own"] = cells.interval(values["auroc"], "strong")
        rows.append(row | {study.key: _published(study, study.auroc[finding], kind) for study in studies})
    foot = {"finding": cells.words("Mean")._replace(value="mean")}
    foot["own"] = cells.interval(metrics["macro_auroc"], "strong")
    foot |= {study.key: _published(study, study.mean, kind) for study in studies}
    return Table("auroc", columns, rows, [foot])


def _heading(study: Study) -> str:
    return study.name + (", misquoted" if study.misquoted else "")


def _group(study: Study) -> str:
    return template.short_kind(study.split)


def _published(study: Study, value: float, kind: str) -> Cell:
    look = "" if study.comparable(kind) else "grey"
    return cells.number(value)._replace(look=f"{look} struck".strip() if study.misquoted else look)


def _described(study: Study) -> str:
    return f"**{study.name}**: {study.said}; {study.note}. Read in {study.source}."


def _anchors(anchors: list[Anchor], kind: str) -> Table:
    columns = [
        Column("name", "Published macro AUROC", "text"),
        Column("split", "Split", "text"),
        Column("macro_auroc", "Macro AUROC"),
        Column("note", "", "text"),
    ]
    rows = []
    for anchor in anchors:
        look = "" if anchor.split == kind else "grey"
        rows.append(
            {
                "name": cells.words(anchor.name, look),
                "split": cells.words(template.short_kind(anchor.split), look)._replace(value=anchor.split),
                "macro_auroc": cells.words(anchor.macro_auroc, look),
                "note": cells.words(anchor.note, "quiet"),
            }
        )
    return Table("anchors", columns, rows, heading="Anchors")


def _article(kind: str) -> str:
    return f"{'an' if kind.startswith('o') else 'a'} {kind}"

"""The head of a report and its first section: the number, what it is, what it isn't, what to beware of."""

from __future__ import annotations

from typing import Any

from engine.report import cells, template
from engine.report.document import Block, Column, Facts, Headline, Paragraph, Section, Table, missing
from engine.report.run_files import Evaluation, RunFiles
from engine.report.sections import published_studies

_RANKINGS = (
    ("macro_auroc", "Macro AUROC"),
    ("macro_auprc", "Macro AUPRC"),
    ("micro_auroc", "Micro AUROC"),
    ("micro_auprc", "Micro AUPRC"),
)

# What the commands that read the test split do with it.
_READ_FOR = {"evaluate": "judged", "heatmaps": "heat maps"}


def headline(run: RunFiles) -> Headline | None:
    """Return the macro AUROC of the split that the report is on."""
    if not run.shown:
        return None
    metrics = run.shown.metrics
    value = metrics["macro_auroc"]
    cell = cells.interval(value)
    return Headline(
        cell.text,
        cell.beside,
        (
            f"macro AUROC on {run.shown.split}, {template.said_kind(run.kind_of_split)}",
            f"mean of {metrics['defined_findings']} of {len(metrics['findings'])} findings; 95 % interval "
            "over patients",
        ),
        value,
    )


def facts(run: RunFiles) -> list[tuple[str, str]]:
    """Return (number, what it is) for the head of the page."""
    rows = []
    if run.shown:
        rows += [
            (template.count(run.shown.metrics["images"]), "images judged"),
            (template.count(run.shown.metrics["patients"]), "patients"),
        ]
    if run.ensemble:
        rows.append((template.count(len(run.trainings)), "models together"))
    else:
        rows.append((template.count(run.known.get("parameters")), "parameters"))
    rows.append(_readings(run))
    return rows


def _readings(run: RunFiles) -> tuple[str, str]:
    """Say how often the test split was read, and what for, where the record tells."""
    if not run.test_reads and run.shown and run.shown.split == "test":
        return "not recorded", "how often the test split was read"
    commands = [str(read["command"]).split()[1:2] for read in run.test_reads]
    counted = [(word, commands.count([name])) for name, word in _READ_FOR.items() if [name] in commands]
    told = len(commands) > 1 and sum(number for _, number in counted) == len(commands)
    purposes = ", ".join(f"{word} {times(number)}" for word, number in counted) if told else ""
    return times(len(run.test_reads)), "the test split was read" + (f": {purposes}" if told else "")


def warnings(run: RunFiles) -> list[str]:
    """Say what a reader must know before the first number."""
    said = []
    if run.phantom:
        said.append(
            "**Phantom data: drawn, not patients.** The numbers say that the machinery works, nothing "
            "about medicine."
        )
    if not run.finished:
        done = template.count(run.known.get("epochs_done"))
        said.append(
            f"**This run did not finish.** Its state is “{run.known.get('state', 'unknown')}” after {done} "
            "epochs; the numbers are those of the best epoch so far."
        )
    if run.shown and run.shown.split != "test":
        said.append(
            "**Not the test split.** Epochs, thresholds and weights were chosen on these images, so the "
            "numbers flatter the model."
        )
    if run.shown and not run.phantom and (part := published_studies.part_of_list(run)):
        said.append(f"**{part[0].upper()}{part[1:]}.** Numbers of a part don’t compare with published ones.")
    if stale := _judged_otherwise(run):
        said.append(stale)
    if len(run.test_models) > 1:
        said.append(
            f"**{len(run.test_models)} models of this run directory have read the test split.** What was "
            "changed in between may have been chosen on test; the readings are listed under “How to "
            "reproduce”."
        )
    return said


def _judged_otherwise(run: RunFiles) -> str:
    """Say where the numbers are of several models; only a run directory without its model gets so far."""
    judged = {found.metrics["model_sha256"] for found in run.evaluations.values()}
    if len(judged) > 1:
        return (
            "**Validation and test were judged with different models**, so thresholds and temperatures "
            f"may not be the test model’s: `{run.make('evaluate')}`."
        )
    return ""


def lead(run: RunFiles) -> str:
    """Say in a sentence what was judged on what."""
    names = [str(training.config.get("model", {}).get("name", "")) for training in run.trainings]
    model = " and ".join(dict.fromkeys(name for name in names if name)) or "A model"
    if run.ensemble:
        model = f"An ensemble of {len(run.trainings)} models ({model})"
    kind = template.said_kind(run.kind_of_split)
    article = "an" if kind.startswith("o") else "a"
    on = f", judged on the {run.shown.split} images of a data set with {article} {kind}" if run.shown else ""
    return f"{model} for 14 findings on chest X-rays{on}."


def section(run: RunFiles) -> Section:
    """Build the section."""
    if not run.shown:
        return Section("summary", "Summary", [missing("No evaluation yet", run.make("evaluate"))])
    blocks: list[Block] = [Paragraph(_what_it_is(run, run.shown)), _split_table(run)]
    gain = run.shown.metrics.get("gain")
    if gain:
        blocks += _gain(gain)
    if run.ensemble:
        blocks += [_members(run), _how_combined(run.ensemble, clean=len(run.test_models) <= 1)]
    if soup := run.known.get("soup"):
        blocks.append(Paragraph(_soup(soup)))
    return Section("summary", "Summary", blocks)


def times(number: int) -> str:
    """Say how often: `once`, `3 times`."""
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _what_it_is(run: RunFiles, shown: Evaluation) -> str:
    metrics = shown.metrics
    isnt = (
        "It is a number about drawn pictures: about no patient, and no medical device."
        if run.phantom
        else "It is a number about one data set and labels mined from reports: not about another hospital, "
        "not a comparison with radiologists, and no medical device."
    )
    return (
        "The chance that an image with a finding is ranked above one without it is "
        f"{cells.in_line(metrics['macro_auroc'])}, averaged over the findings; guessing gives 0.5. "
        f"{template.count(metrics['images'])} images of {template.count(metrics['patients'])} patients of "
        f"the {shown.split} split were judged. Intervals are of "
        f"{template.count(metrics['bootstrap']['draws'])} draws of patients, all images of a patient "
        f"together. {isnt}"
    )


def _split_table(run: RunFiles) -> Table:
    columns = [
        Column("split", "Split", "text"),
        *(Column(key, heading) for key, heading in _RANKINGS),
        Column("images", "Images"),
        Column("patients", "Patients"),
    ]
    rows = [
        {
            "split": cells.words(split),
            "images": cells.count(found.metrics["images"]),
            "patients": cells.count(found.metrics["patients"]),
            **{key: cells.interval(found.metrics.get(key)) for key, _ in _RANKINGS},
        }
        for split, found in sorted(run.evaluations.items(), reverse=True)
    ]
    return Table("splits", columns, rows)


def _gain(gain: dict[str, Any]) -> list[Block]:
    best = gain["over_best"]
    sentence = (
        f"Macro AUROC of the ensemble minus that of its best member ({best['member']}, chosen on "
        f"validation): **{cells.difference_in_line(best['macro_auroc'])}**; minus that of its mean member: "
        f"**{cells.difference_in_line(gain['over_mean'])}**. Both are paired on the same draws of patients."
    )
    return [
        Paragraph(sentence + _verdict(best["macro_auroc"])),
        Facts("gain", (), values={"over_best": best, "over_mean": gain["over_mean"]}),
    ]


def _verdict(gain: dict[str, float | None]) -> str:
    low, high = gain["low"], gain["high"]
    if low is None or high is None:
        return " Whether that is more than chance can't be said."
    if low <= 0 <= high:
        return " The first interval holds 0: the gain over the best member may be chance."
    return ""


def _members(run: RunFiles) -> Table:
    ensemble = run.ensemble or {}
    judged = ((run.shown.metrics.get("gain") if run.shown else None) or {}).get("members", {})
    rows = []
    for member, weight in zip(ensemble["members"], ensemble["weights"], strict=True):
        rows.append(
            {
                "member": cells.words(member["name"]),
                "loss": cells.words(member.get("loss")),
                "side": cells.count(member.get("image_side_px")),
                "weight": _weight(weight),
                "validation": cells.interval(member.get("validation_macro_auroc")),
                "judged": cells.interval(judged.get(member["name"], {}).get("macro_auroc")),
            }
        )
    split = run.shown.split if run.shown else "test"
    columns = [
        Column("member", "Member", "text"),
        Column("loss", "Loss", "text"),
        Column("side", "Side, px"),
        Column("weight", "Weight"),
        Column("validation", "Macro AUROC, validation"),
        Column("judged", f"Macro AUROC, {split}"),
    ]
    return Table("members", columns, rows, heading="Members")


def _soup(soup: dict[str, Any]) -> str:
    validation = soup["validation"]
    names = ", ".join(member["name"] for member in soup["members"])
    return (
        f"One model whose weights are the mean of {len(soup['members'])} models’ ({names}). On validation "
        f"it gains {cells.difference_in_line(validation['gain_over_best'])} macro AUROC over the best of "
        "them."
    )


def _weight(weight: Any) -> Any:
    if isinstance(weight, list):
        mean = sum(weight) / len(weight)
        return cells.number(mean)._replace(value=weight, beside="by finding")
    return cells.number(weight)


def _how_combined(ensemble: dict[str, Any], *, clean: bool) -> Paragraph:
    reason = ensemble.get("guard", {}).get("reason")
    said = [
        f"Combined by the weighted mean of {ensemble['rule']}; weights: {ensemble['chosen_by']}"
        + (f" ({reason})" if reason else "")
        + (". Nothing of it was chosen on test." if clean else ".")
    ]
    if ensemble.get("tta"):
        said.append(f"Each image was seen in {len(ensemble['tta']['views'])} views.")
    return Paragraph(" ".join(said), look="note")

"""What is written of an ensemble or a soup, as JSON and on the screen; the numbers are computed elsewhere.

The screen is made from the JSON, so that asking for the same again shows the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from engine.ensemble import views
from engine.ensemble import weights as weighting
from engine.ensemble.guard import Candidate, Choice
from engine.ensemble.members import Member
from engine.evaluation import printed
from engine.metrics.intervals import Interval, as_json
from records.labels import FINDINGS
from records.manifest import Manifest

SCHEMA = 1
# In macro AUROC: less may be chance, more is what a soup of strangers looks like.
_SOUP_LOSS = -0.01


def of_ensemble(
    members: Sequence[Member], choice: Choice, gain: Mapping[str, Any], *, rule: str, tta: str, draws: int
) -> dict[str, Any]:
    """Return `ensemble.json`.

    Args:
        members: M.
        choice: of their weights.
        gain: of `engine.evaluation.gain.judge`, for the chosen weights' held-out predictions.
        rule: of `combine.RULES`.
        tta: of `views.VIEWS`.
        draws: of the bootstrap.
    """
    weights = choice.chosen.weights.tolist()
    return {
        "schema": SCHEMA,
        "rule": rule,
        "weights": weights,
        "chosen_by": choice.chosen.name,
        "guard": {
            "reason": choice.reason,
            "folds": choice.folds,
            "unit": "patient",
            "gain_over_equal": as_json(choice.gain) if choice.gain else None,
        },
        "members": _members(members, gain, weights),
        "tta": None
        if tta == views.NONE
        else {"name": tta, "views": [list(view) for view in views.named(tta)]},
        "candidates": [_candidate(each) for each in choice.candidates],
        "bootstrap": {"draws": draws, "unit": "patient", "interval": 0.95},
        "validation": {
            "macro_auroc": as_json(choice.chosen.macro_auroc),
            "held_out": choice.chosen.name != weighting.EQUAL,
            **_gains(gain),
        },
    }


def of_soup(
    members: Sequence[Member],
    gain: Mapping[str, Any],
    *,
    macro_auroc: Interval,
    ensemble: Interval,
    gain_over_ensemble: Interval,
    pictures: int,
    draws: int,
) -> dict[str, Any]:
    """Return what `run.json` says of a soup.

    Args:
        members: M.
        gain: of `engine.evaluation.gain.judge`.
        macro_auroc: of the soup on validation.
        ensemble: of its members' ensemble with equal weights.
        gain_over_ensemble: the soup's.
        pictures: that the statistics of batch normalisation are of; 0: they are averaged.
        draws: of the bootstrap.
    """
    return {
        "members": _members(members, gain, [1 / len(members)] * len(members)),
        "batch_norm": {"statistics": "recomputed" if pictures else "averaged", "training_pictures": pictures},
        "bootstrap": {"draws": draws, "unit": "patient", "interval": 0.95},
        "validation": {
            "macro_auroc": as_json(macro_auroc),
            **_gains(gain),
            "equal_ensemble_macro_auroc": as_json(ensemble),
            "gain_over_equal_ensemble": as_json(gain_over_ensemble),
        },
    }


def print_ensemble(values: dict[str, Any], data_set: Manifest, output: Path) -> None:
    """Show an `ensemble.json`."""
    validation = values["validation"]
    table = _table(values["members"])
    table.add_section()
    note = ", held out" if validation["held_out"] else ""
    of_all = printed.interval(validation["macro_auroc"])
    table.add_row(f"mean of {values['rule']}{note}", "", "", of_all, "1.000", style="bold")
    lines = _gain_lines(validation)
    lines.append(f"weights: {values['chosen_by']}; {values['guard']['reason']}")
    if values["tta"]:
        lines.append(f"test-time augmentation: {values['tta']['name']}, {len(values['tta']['views'])} views")
    _print(values, table, lines, data_set, output)


def print_soup(values: dict[str, Any], data_set: Manifest, output: Path) -> None:
    """Show what `run.json` says of a soup."""
    validation = values["validation"]
    table = _table(values["members"])
    table.add_section()
    table.add_row(
        "ensemble, equal weights", "", "", printed.interval(validation["equal_ensemble_macro_auroc"]), ""
    )
    table.add_row("soup", "", "", printed.interval(validation["macro_auroc"]), "1.000", style="bold")
    batch_norm = values["batch_norm"]
    lines = _gain_lines(validation)
    over_ensemble = printed.interval(validation["gain_over_equal_ensemble"], "+")
    lines.append(f"gain over the ensemble with equal weights: {over_ensemble}")
    lines.append(
        f"batch normalisation: statistics of {batch_norm['training_pictures']:,} training pictures"
        if batch_norm["training_pictures"]
        else "batch normalisation: averaged statistics"
    )
    over_mean = validation["gain_over_mean"]["value"]
    if over_mean is not None and over_mean < _SOUP_LOSS:
        lines.append("a soup worse than its members: were they trained from the same first weights?")
    _print(values, table, lines, data_set, output)


def _print(
    values: dict[str, Any], table: Table, lines: Sequence[str], data_set: Manifest, output: Path
) -> None:
    split, screen = data_set.splits["validation"], printed.console()
    screen.print(
        f"\nvalidation: {split.images:,} images of {split.patients:,} patients; in brackets 95 % intervals, "
        f"{values['bootstrap']['draws']:,} draws of patients",
        soft_wrap=True,
    )
    screen.print(table)
    undefined = [name for name in FINDINGS if not 0 < split.positives[name] < split.images]
    if undefined:
        lines = [*lines, f"AUROC not defined, so not in the macro, for {', '.join(undefined)}"]
    for line in lines:
        screen.print(line, soft_wrap=True)
    screen.print(f"{output}\njudge it with `engine evaluate --run-dir {output}`", soft_wrap=True)


def _table(members: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("member", overflow="fold")
    table.add_column("loss", overflow="fold")
    for heading in ("side", "macro AUROC", "weight"):
        table.add_column(heading, justify="right", no_wrap=True)
    for member in members:
        table.add_row(
            member["name"],
            member["loss"],
            f"{member['image_side_px']} px",
            printed.interval(member["validation_macro_auroc"]),
            f"{member['weight']:.3f}",
        )
    return table


def _gain_lines(validation: Mapping[str, Any]) -> list[str]:
    return [
        f"gain over the best member, {validation['best_member']}: "
        f"{printed.interval(validation['gain_over_best'], '+')}",
        f"gain over the mean member: {printed.interval(validation['gain_over_mean'], '+')}",
    ]


def _gains(gain: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "best_member": gain["over_best"]["member"],
        "gain_over_best": gain["over_best"]["macro_auroc"],
        "gain_over_mean": gain["over_mean"],
    }


def _members(
    members: Sequence[Member], gain: Mapping[str, Any], weights: Sequence[float]
) -> list[dict[str, Any]]:
    return [
        {
            "name": member.name,
            "run_dir": str(member.run_dir.resolve()),
            "sha256": member.sha256,
            "image_side_px": member.image_side_px,
            "loss": member.loss,
            "weight": weight,
            "validation_macro_auroc": gain["members"][member.name]["macro_auroc"],
        }
        for member, weight in zip(members, weights, strict=True)
    ]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    fitted_on = candidate.macro_auroc_fitted_on
    return {
        "name": candidate.name,
        "weights": candidate.weights.tolist(),
        "validation_macro_auroc": as_json(candidate.macro_auroc),
        "macro_auroc_fitted_on": None if math.isnan(fitted_on) else fitted_on,
    }

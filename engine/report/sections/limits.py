"""What the numbers don't say."""

from __future__ import annotations

from engine.report.document import Bullets, Section
from engine.report.run_files import RunFiles

_ALWAYS = (
    "**This is no medical device.** It is for research and must not be used for diagnosis or treatment.",
)
_PHANTOM = (
    "**The pictures were drawn.** Signs are bolder than in patients and labels are exact; nothing follows "
    "for real films. What limits a report on those is this:",
)
_PATIENTS = (
    "**The labels are not the truth.** They were mined from the text of radiology reports; radiologists "
    "who read the pictures again find many of them wrong. A model is rewarded here for agreeing with the "
    "mining.",
    "**Chest drains give pneumothorax away.** Many of its pictures were taken after treatment, so a model "
    "may have learned to see the drain.",
    "**Kinds of split don’t compare.** The official test split is harder than a random one by patient; "
    "set these numbers beside others of the same kind only.",
    "**Rare findings are uncertain.** A few dozen patients can’t tell 0.80 from 0.88; the intervals say "
    "so, and they hold only chance among patients, not the choice of data, labels or seed.",
    "**One hospital.** Another scanner, another population, another prevalence gives other numbers, "
    "calibration before ranking.",
)


def lines(*, phantom: bool) -> list[str]:
    """Return what limits any result, with `**` around what is emphasised."""
    return [*_ALWAYS, *(_PHANTOM if phantom else ()), *_PATIENTS]


def section(run: RunFiles) -> Section:
    """Build the section."""
    return Section("limits", "Limits", [Bullets(lines(phantom=run.phantom))])

"""What the measured rates mean: each stage's share of the stall and of its ceiling, and which one bounds.

Stages stand in the order in which a batch goes through them. Nothing is measured here, and no TensorFlow is
needed; `input_diagnosis` measures, `diagnosis_table` and `diagnosis_chart` show.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.benchmark.ceilings import DISK, MEMORY, NETWORK, Ceiling
from engine.benchmark.emulated_step import Utilisation
from engine.benchmark.windows import Rate

FETCH, GATHER, DECODE = "fetch", "map and gather", "decode"
AUGMENT, COPY, STEP, WHOLE = "augment", "copy to device", "step", "whole pipeline"
# Not a stage: what is lost between the stages and the whole.
HAND_OVER = "hand-over to TensorFlow"
STAGES = (FETCH, GATHER, DECODE, AUGMENT, COPY, STEP, WHOLE)
# From this share of a ceiling on, the ceiling is what bounds.
_AT_CEILING = 0.8
# Below this share of the slowest stage, what lies between the stages and the whole is what bounds.
_HANDED_OVER = 0.7


@dataclass(frozen=True, kw_only=True)
class Stage(Rate):
    """One stage's rate, and what it means.

    Attributes:
        stall_share: the share of a step's wall time in which the device would wait for this stage alone. The
            step's wall time is the slower of the device's own and the whole pipeline's; without an emulated
            step the device takes no time and always waits.
        ceiling: by name, what this stage can't exceed: a ceiling of the machine or a slower stage.
        ceiling_share: of that ceiling's rate.
    """

    stall_share: float | None = None
    ceiling: str = ""
    ceiling_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was measured, and where.

    Attributes:
        data: the manifest's location.
        source: `local`: through the user's cache, warm; `s3`: from the store, through an empty cache.
        batch: images in a batch: as many as were asked for, or as an epoch has.
        image_shape: rows, columns, stored channels.
        encoding: of the stored pictures.
        split_bytes: of the shards of the training split.
        measured_bytes: of those shards that stages were measured on.
        stored_image_bytes: of a picture as it is stored, the mean.
        shuffle_block_shards: of the order.
        threads: that gather and decode.
        usable_cores: of this process.
        memory_bytes: of the machine.
        machine: in words.
        device: that the step runs on, in words.
        has_gpu: whether that is a GPU.
        rounds: of all candidates in turn.
        seconds: measured for each candidate.
    """

    data: str
    source: str
    batch: int
    image_shape: tuple[int, int, int]
    encoding: str
    split_bytes: int
    measured_bytes: int
    stored_image_bytes: float
    shuffle_block_shards: int
    threads: int
    usable_cores: int
    memory_bytes: int
    machine: str
    device: str
    has_gpu: bool
    rounds: int
    seconds: float

    @property
    def image_bytes(self) -> int:
        """Bytes of a picture in a batch."""
        rows, columns, channels = self.image_shape
        return rows * columns * channels


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which stage bounds, in a word and in a line that says what to change."""

    bound: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One run.

    Attributes:
        setting: what was measured, and where.
        stages: in the order of `STAGES`, all of them.
        ceilings: of the machine.
        verdict: on them.
        utilisation: of the emulated device; None: none was asked for.
        rates: of the training input and of the usual ways to read the same images.
    """

    setting: Setting
    stages: tuple[Stage, ...]
    ceilings: tuple[Ceiling, ...]
    verdict: Verdict
    utilisation: Utilisation | None
    rates: tuple[Rate, ...]

    def to_json(self) -> str:
        """Serialize with the attributes' names as keys, those of the setting beside the others."""
        values = dataclasses.asdict(self)
        return json.dumps({**values.pop("setting"), **values}, indent=1)


def assess(
    measured: Mapping[str, Rate], ceilings: Sequence[Ceiling], setting: Setting, step_ms: float | None
) -> tuple[Stage, ...]:
    """Put each stage beside the device and beside its ceiling.

    Args:
        measured: rates of all `STAGES` by name.
        ceilings: of the machine.
        setting: of the run.
        step_ms: that the device takes a batch; None: no time.
    """
    limits = {ceiling.name: ceiling.images_per_s for ceiling in ceilings if ceiling.images_per_s}
    if setting.encoding != "raw" and MEMORY in limits:
        limits[MEMORY] *= setting.image_bytes / setting.stored_image_bytes
    ceiling_of = {GATHER: MEMORY, FETCH: NETWORK}
    if slowest := _slowest([measured[name] for name in _input_stages(setting)]):
        limits[slowest.name], ceiling_of[WHOLE] = slowest.images_per_s or 0.0, slowest.name
    step_s = (step_ms or 0) / 1000
    whole = measured[WHOLE].images_per_s
    step_wall_s = max(step_s, setting.batch / whole if whole else 0)
    return tuple(
        _stage(measured[name], setting.batch, step_s, step_wall_s, ceiling_of.get(name, ""), limits)
        for name in STAGES
    )


def judge(
    stages: Sequence[Stage],
    ceilings: Sequence[Ceiling],
    setting: Setting,
    utilisation: Utilisation | None = None,
) -> Verdict:
    """Name the stage that bounds, how far it is from its ceiling, and what to change."""
    by_name = {stage.name: stage for stage in stages}
    step, whole = by_name[STEP], by_name[WHOLE]
    if step.images_per_s and whole.images_per_s and whole.images_per_s >= step.images_per_s:
        times = whole.images_per_s / step.images_per_s
        return Verdict(
            bound=STEP,
            text=f"step bounds: {_number(step.images_per_s)} images/s; the input gives "
            f"{_number(whole.images_per_s)}, {times:.1f} times as much: {_what_is_missed(utilisation)}",
        )
    slowest = _slowest([by_name[name] for name in _input_stages(setting)])
    if slowest is None:
        return Verdict(bound="", text="no stage was measured")
    bound = by_name[slowest.name]
    if bound.name == GATHER and setting.measured_bytes > setting.memory_bytes:
        return Verdict(bound=DISK, text=_disk_text(bound, ceilings, setting))
    # Behind a fetch it is the start of each epoch, not the hand-over, that costs.
    if bound.name != FETCH and (whole.ceiling_share or 1.0) < _HANDED_OVER:
        return Verdict(bound=HAND_OVER, text=_hand_over_text(whole, setting))
    advice = {GATHER: _gather_advice, DECODE: _decode_advice, FETCH: _fetch_advice}.get(bound.name, _advice)
    return Verdict(bound=bound.name, text=f"{_beginning(bound, setting)}{advice(bound, setting)}")


def _what_is_missed(found: Utilisation | None) -> str:
    """Say why a device that the input keeps up with may still be idle for longer than is wanted."""
    if found and found.later_share is not None and found.later_share < found.later_goal_share:
        return "yet the device waits: other work has the cores, or batches come in fits and starts"
    if found and found.first_epoch_share < found.first_epoch_goal_share:
        return f"only the first epoch is held up, by {found.first_batch_s:.2f} s for its first batch"
    return "nothing to change"


def _input_stages(setting: Setting) -> tuple[str, ...]:
    """Name what a batch goes through before the step; on a CPU, augmentation is a part of that."""
    return (FETCH, GATHER, DECODE, AUGMENT, COPY) if setting.has_gpu else (FETCH, GATHER, DECODE)


def _slowest(rates: Sequence[Rate]) -> Rate | None:
    measured = [rate for rate in rates if rate.images_per_s]
    return min(measured, key=lambda rate: rate.images_per_s or 0.0, default=None)


def _stage(
    rate: Rate, batch: int, step_s: float, step_wall_s: float, ceiling: str, limits: Mapping[str, float]
) -> Stage:
    values = dataclasses.asdict(rate)
    if not rate.images_per_s or rate.name == STEP:
        return Stage(**values)
    waits_s = max(0.0, batch / rate.images_per_s - step_s)
    # A stage alone may take longer than all together by the machine's moods.
    stall_share = min(1.0, waits_s / step_wall_s) if step_wall_s else None
    if ceiling not in limits:
        return Stage(**values, stall_share=stall_share)
    share = rate.images_per_s / limits[ceiling]
    return Stage(**values, stall_share=stall_share, ceiling=ceiling, ceiling_share=share)


def _beginning(bound: Stage, setting: Setting) -> str:
    text = f"{bound.name} bounds: {_number(bound.images_per_s)} images/s on {_cores(setting)}"
    if bound.ceiling_share is not None:
        text += f", {bound.ceiling_share:.2f} of what {_article(bound.ceiling)} gives"
    return f"{text}; "


def _cores(setting: Setting) -> str:
    return f"{setting.usable_cores} core{'' if setting.usable_cores == 1 else 's'}"


def _article(ceiling: str) -> str:
    return "memory" if ceiling == MEMORY else f"the {ceiling}"


def _gather_advice(bound: Stage, setting: Setting) -> str:
    if (bound.ceiling_share or 0.0) >= _AT_CEILING:
        return "only faster memory would help"
    more = (
        "more --threads" if setting.threads < setting.usable_cores else "more cores, or fewer other programs"
    )
    return f"try {more}"


def _decode_advice(_: Stage, setting: Setting) -> str:
    times = setting.image_bytes / setting.stored_image_bytes
    return f"convert with --encoding raw ({times:.1f} times the bytes) or use more cores"


def _fetch_advice(bound: Stage, setting: Setting) -> str:
    if (bound.ceiling_share or 0.0) < _AT_CEILING:
        return "the network gives more: use more cores, or run fewer other programs beside it"
    smaller = "convert with --encoding jpeg (a quarter of the bytes) or " if setting.encoding == "raw" else ""
    return f"{smaller}use a nearer store; later epochs come from the cache where input.cache_bytes holds them"


def _advice(bound: Stage, _: Setting) -> str:
    return {
        AUGMENT: "turn off what the config's `augment` doesn't need, or let several devices share the batch",
        COPY: "larger batches cost fewer copies; nothing else of this input's would help",
    }[bound.name]


def _disk_text(bound: Stage, ceilings: Sequence[Ceiling], setting: Setting) -> str:
    disk = next((ceiling.images_per_s for ceiling in ceilings if ceiling.name == DISK), None)
    gives = f", which gives {_number(disk)} images/s" if disk else ""
    shards_gb, memory_gb = setting.measured_bytes / 1e9, setting.memory_bytes / 1e9
    return (
        f"disk bounds: {_number(bound.images_per_s)} images/s; the training shards ({shards_gb:.1f} GB) "
        f"don't fit into memory ({memory_gb:.1f} GB), so epochs are read from disk{gives}: "
        "add memory, or convert with --encoding jpeg"
    )


def _hand_over_text(whole: Stage, setting: Setting) -> str:
    share = whole.ceiling_share or 0.0
    busy = (whole.cpu_s_per_1000 or 0.0) * (whole.images_per_s or 0.0) / 1000
    return (
        f"{HAND_OVER} bounds: {_number(whole.images_per_s)} images/s, {share:.2f} of the "
        f"slowest stage ({whole.ceiling}), {busy:.1f} of {_cores(setting)} busy; "
        "try larger batches, more cores, or fewer other programs beside it"
    )


def _number(images_per_s: float | None) -> str:
    rate = images_per_s or 0.0
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"

"""What follows from the windows of a step's parts, and how it is asked for and shown."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from rich.console import Console

from engine import config as configs
from engine.benchmark import step_chart, step_table
from engine.benchmark.step_figures import (
    BACKWARD,
    FORWARD,
    REAL,
    SYNTHETIC,
    StepRates,
    StepWindow,
    VariantRates,
    summed_up,
)
from engine.benchmark.step_options import Options, Variant, of_words
from records.errors import StorageError, UsageError

TRAIN = configs.load(str(Path(__file__).parents[3] / "configs/demo.yaml"), []).train


def windows(*step_ms: float, stall: float = 0.0) -> list[StepWindow]:
    """One window a round, of ten steps on four images each."""
    return [
        StepWindow(images=40, wall_s=ms / 100, cpu_s=ms / 50, stall_s=stall * ms / 100, steps=10)
        for ms in step_ms
    ]


def variant(**changed) -> VariantRates:
    measured = {
        SYNTHETIC: windows(100, 120, 110),
        REAL: windows(100, 125, 110, stall=0.25),
        FORWARD: windows(30, 40, 20),
        BACKWARD: windows(90, 100, 100),
    }
    known = {"build_s": 2.0, "first_step_s": 30.0, "peak_bytes": 3 * 10**9, **summed_up(measured)}
    return VariantRates(**({"precision": "float32", "is_compiled": False, "batch": 4} | known | changed))


def found(*variants: VariantRates, **changed) -> StepRates:
    usual = {
        "model": "densenet121_cbam",
        "parameters": 8_228_081,
        "image_shape": (320, 320, 1),
        "image_side_px": 320,
        "data": "/data/manifest.json",
        "augmented": False,
        "machine": "a machine",
        "device": "CPU, 2 cores",
        "has_gpu": False,
        "steps": 10,
        "rounds": 3,
        "start_s": 8.0,
    }
    return StepRates(**(usual | changed), variants=variants)


def printed(rates: StepRates) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(*step_table.to_tables(rates), sep="\n")
    return captured.get()


def test_backward_and_optimizer_are_differences_round_by_round() -> None:
    one = variant()
    assert (one.step.median, one.step.lowest, one.step.highest) == pytest.approx((110, 100, 120))
    assert (one.forward.median, one.backward.median) == pytest.approx((30, 60))
    assert (one.optimizer.lowest, one.optimizer.median, one.optimizer.highest) == pytest.approx((10, 10, 20))


def test_real_input_is_compared_with_synthetic_batches_of_the_same_round() -> None:
    one = variant()
    assert one.real_share == pytest.approx(1.0)
    assert one.stall_share == pytest.approx(0.25)
    assert one.synthetic.images_per_s == pytest.approx(4 / 0.110)
    assert one.synthetic.cpu_s_per_1000 == pytest.approx(1000 * 0.220 / 4)


def test_the_tables_fit_a_screen_and_say_whether_the_goal_is_met() -> None:
    text = printed(found(variant(), variant(precision="mixed_bfloat16", is_compiled=True, batch=128)))
    assert max(map(len, text.splitlines())) <= 80
    assert "mixed_bfloat16, XLA, 128" in text
    assert "0.98: met" in text
    assert "3.0 GB" in text
    assert "0.98: missed" in printed(found(variant(), variant(real_share=0.97)))


def test_what_was_not_measured_is_told_with_its_reason() -> None:
    left_out = VariantRates(precision="float32", is_compiled=True, batch=512, not_measured="out of memory")
    assert "float32, XLA, 512: not measured: out of memory" in printed(found(variant(), left_out))
    without_data = variant(real=None, real_share=None, stall_share=None)
    assert "no --data: synthetic batches alone" in printed(found(without_data, data=""))


def test_the_chart_splits_each_measured_variant_into_its_parts() -> None:
    left_out = VariantRates(precision="float32", is_compiled=True, batch=512, not_measured="out of memory")
    whole = variant(batch=8, forward=None, backward=None, optimizer=None)
    (ax,) = step_chart.draw(found(variant(), left_out, whole)).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["float32, 4", "float32, 8"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([30 / 4, 60 / 4, 10 / 4, 110 / 8])


def test_the_file_is_a_picture_or_one_clear_error(tmp_path: Path) -> None:
    step_chart.write(str(tmp_path / "chart.png"), found(variant()))
    assert cv2.imread(str(tmp_path / "chart.png")).shape[1] > 1000
    with pytest.raises(StorageError, match=r"chart\.png"):
        step_chart.write(str(tmp_path / "chart.png" / "chart.png"), found(variant()))


def test_words_name_each_variant_once_and_the_config_the_rest() -> None:
    asked = of_words(
        TRAIN, precisions="float32, mixed_bfloat16", compilations="", batches="8,8", steps=3, breakdown=True
    )
    assert asked.variants == [Variant("float32", "auto", 8), Variant("mixed_bfloat16", "auto", 8)]
    plain = of_words(TRAIN, precisions="", compilations="", batches="", steps=3, breakdown=True)
    assert plain.variants == [Variant("float32", "auto", 16)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"precisions": "float8"}, "--precisions float8; expected some of float32, mixed_float16"),
        ({"compilations": "yes"}, "--compilations yes; expected some of auto, always, never"),
        ({"batches": "many"}, "--batches many; expected whole numbers"),
        ({"batches": "0"}, "batches of 0, 3 steps, 3 rounds; expected at least 1 of each"),
        ({"steps": 0}, "0 steps"),
    ],
)
def test_a_word_that_is_not_known_is_one_clear_error(changed: dict, message: str) -> None:
    words = {"precisions": "", "compilations": "", "batches": "", "steps": 3, "breakdown": True}
    with pytest.raises(UsageError, match=message):
        of_words(TRAIN, **(words | changed))


def test_options_without_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="batches of nothing"):
        Options(precisions=("float32",), compilations=("never",), batches=())

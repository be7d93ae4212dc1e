"""Transforms: pinned, the same in whatever company a record is drawn, evenly spread and independent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from engine.config import AugmentConfig
from engine.input import transforms

OFF = AugmentConfig(rotation_degrees=0, zoom=0, shift=0, brightness=0, contrast=0, flip=False, originals=True)
ALL = AugmentConfig(
    rotation_degrees=10, zoom=0.1, shift=0.05, brightness=0.1, contrast=0.1, flip=True, originals=True
)
N = 20_000
ROWS, NO_REPEATS = np.arange(N), np.zeros(N, np.int64)
# A correlation of N independent pairs is below this but for one in two million.
CHANCE = 5 / math.sqrt(N)


def _parameters(drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Find out from (B, 8) transforms by what each picture is turned, zoomed, shifted and so on."""
    maps = np.zeros((len(drawn), 3, 3))
    maps[:, :2] = drawn[:, :6].reshape(-1, 2, 3)
    maps[:, 2, 2] = 1
    forward = np.linalg.inv(maps)
    return {
        "rotation": np.degrees(np.arctan2(-forward[:, 0, 1], forward[:, 1, 1])),
        "zoom": np.hypot(forward[:, 0, 1], forward[:, 1, 1]) - 1,
        "shift_x": forward[:, 0, 2],
        "shift_y": forward[:, 1, 2],
        "contrast": drawn[:, 6] - 1.0,
        "brightness": drawn[:, 7],
    }


RANGES = {
    "rotation": 10,
    "zoom": 0.1,
    "shift_x": 0.05,
    "shift_y": 0.05,
    "brightness": 0.1,
    "contrast": 0.1,
}


def test_the_transforms_are_those_that_earlier_versions_drew() -> None:
    # Runs resume by position: change nothing here without a new major version.
    drawn = transforms.draw(ALL, 17, 3, np.array([0, 1, 112_119]), np.array([0, 1, 2]))
    assert drawn.dtype == np.float32
    pinned = [
        [0.9178136, 0.07345585, -0.021775475, -0.07345585, 0.9178136, 0.0065259193, 1.0040264, 0.08726355],
        [0.929965, 0.040067416, -0.014196717, -0.040067416, 0.929965, -0.012966349, 1.073115, -0.076728344],
        [-0.90807027, -0.12557475, 0.03336125, -0.12557475, 0.90807027, 0.005604641, 0.99987906, 0.063846774],
    ]
    assert np.array_equal(drawn, np.array(pinned, np.float32))


def test_the_hash_is_splitmix64() -> None:
    words = transforms._mix(np.array([1234567], np.uint64) + transforms._STEPS)
    # The published generator's first outputs from this seed.
    assert words[:5, 0].tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_record_is_varied_alike_whatever_batch_it_stands_in() -> None:
    rows, repeats = np.array([5, 9, 5, 70_000, 2]), np.array([0, 0, 1, 3, 0])
    whole = transforms.draw(ALL, 1, 2, rows, repeats)
    order = np.array([3, 0, 4, 2, 1])
    assert np.array_equal(transforms.draw(ALL, 1, 2, rows[order], repeats[order]), whole[order])
    alone = [transforms.draw(ALL, 1, 2, rows[[i]], repeats[[i]])[0] for i in range(len(rows))]
    assert np.array_equal(alone, whole)


def test_seed_epoch_record_and_repeat_each_change_the_transform() -> None:
    drawn = {
        transforms.draw(ALL, seed, epoch, np.array([row]), np.array([repeat])).tobytes()
        for seed in (0, 1, 2**64 - 1)
        for epoch in (0, 1, 2)
        for row in (0, 1, 2**31)
        for repeat in (0, 1, 2)
    }
    assert len(drawn) == 3**4


def test_the_six_numbers_undo_a_flip_a_zoom_a_turn_and_a_shift() -> None:
    rows, repeats = np.arange(50), np.zeros(50, np.int64)
    config = dataclasses.replace(ALL, rotation_degrees=180)
    centred = 2 * transforms._uniforms(3, 4, rows, repeats) - 1
    for drawn, (turn, zoom, right, down, *_, flip) in zip(
        transforms.draw(config, 3, 4, rows, repeats), centred.T, strict=True
    ):
        angle = math.radians(180 * turn)
        turned = [
            [math.cos(angle), -math.sin(angle), 0],
            [math.sin(angle), math.cos(angle), 0],
            [0, 0, 1],
        ]
        shifted = [[1, 0, 0.05 * right], [0, 1, 0.05 * down], [0, 0, 1]]
        zoomed = np.diag([1 + 0.1 * zoom, 1 + 0.1 * zoom, 1])
        forward = np.array(shifted) @ turned @ zoomed @ np.diag([-1 if flip < 0 else 1, 1, 1])
        np.testing.assert_allclose(drawn[:6].reshape(2, 3), np.linalg.inv(forward)[:2], atol=2e-7)


def test_every_change_is_spread_evenly_over_its_range() -> None:
    config = dataclasses.replace(ALL, flip=False)
    found = _parameters(transforms.draw(config, 5, 0, ROWS, NO_REPEATS))
    for name, reach in RANGES.items():
        places = (np.sort(found[name]) + reach) / (2 * reach)
        # Kolmogorov's distance; even draws exceed 1.95 / sqrt(N) once in a thousand.
        assert np.abs(places - (np.arange(N) + 0.5) / N).max() < 1.95 / math.sqrt(N), name


def test_half_of_the_pictures_are_mirrored_if_flips_are_on_and_none_if_off() -> None:
    def mirrored(config: AugmentConfig) -> np.ndarray:
        drawn = transforms.draw(config, 5, 0, ROWS, NO_REPEATS)
        return drawn[:, 0] * drawn[:, 4] - drawn[:, 1] * drawn[:, 3] < 0

    assert abs(mirrored(ALL).mean() - 0.5) < CHANCE / 2
    assert not mirrored(dataclasses.replace(ALL, flip=False)).any()


@pytest.mark.parametrize(
    "other",
    [
        lambda: transforms._uniforms(5, 7, ROWS + 1, NO_REPEATS),
        lambda: transforms._uniforms(5, 7, ROWS, NO_REPEATS + 1),
        lambda: transforms._uniforms(5, 8, ROWS, NO_REPEATS),
        lambda: transforms._uniforms(6, 7, ROWS, NO_REPEATS),
        lambda: transforms._uniforms(7, 5, ROWS, NO_REPEATS),
    ],
    ids=["next record", "next repeat", "next epoch", "next seed", "seed and epoch exchanged"],
)
def test_neighbours_are_independent(other: Callable[[], np.ndarray]) -> None:
    both = np.concatenate([transforms._uniforms(5, 7, ROWS, NO_REPEATS), other()])
    correlations = np.corrcoef(both) - np.eye(len(both))
    assert np.abs(correlations).max() < CHANCE


def test_the_draws_of_one_record_over_epochs_are_even_and_independent() -> None:
    drawn = np.concatenate([transforms._uniforms(0, e, ROWS[:4], NO_REPEATS[:4]) for e in range(2000)], 1)
    for row in range(4):
        series = drawn[:, row::4]
        assert np.abs(series.mean(axis=1) - 0.5).max() < 5 * math.sqrt(1 / 12 / 2000)
        assert np.abs(np.corrcoef(series) - np.eye(7)).max() < 5 / math.sqrt(2000)


def test_each_bit_of_a_record_sways_each_bit_of_its_draws() -> None:
    records = np.arange(500, dtype=np.uint64) << np.uint64(3)

    def bits(of: np.ndarray) -> np.ndarray:
        state = transforms._absorb(transforms._epoch_state(1, 2), of)
        words = transforms._mix(state + transforms._STEPS)
        return np.unpackbits(words[..., None].view(np.uint8), axis=-1)

    for bit in range(64):
        changed = (bits(records) != bits(records ^ (np.uint64(1) << np.uint64(bit)))).mean(axis=1)
        # The farthest of 64 x 7 x 64 shares of 500 is within 6 standard deviations of a half.
        assert np.abs(changed - 0.5).max() < 6 * 0.5 / math.sqrt(500), bit


def test_what_is_off_changes_nothing_and_leaves_the_other_draws_alone() -> None:
    rows, repeats = np.arange(100), np.zeros(100, np.int64)
    assert (transforms.draw(OFF, 1, 2, rows, repeats) == np.float32(transforms.IDENTITY)).all()
    whole = _parameters(transforms.draw(dataclasses.replace(ALL, flip=False), 1, 2, rows, repeats))
    keys = {"rotation": "rotation_degrees", "shift_x": "shift", "shift_y": "shift"}
    for name in RANGES:
        key = keys.get(name, name)
        one = dataclasses.replace(OFF, **{key: getattr(ALL, key)})
        alone = _parameters(transforms.draw(one, 1, 2, rows, repeats))
        np.testing.assert_allclose(alone[name], whole[name], rtol=2e-4, atol=2e-6)
        for other in RANGES:
            if keys.get(other, other) != key:
                assert np.abs(alone[other]).max() < 1e-5, (name, other)


def test_only_repeats_are_varied_where_originals_are_to_stay() -> None:
    rows, repeats = np.array([3, 3, 3, 8, 9]), np.array([0, 1, 2, 0, 1])
    config = dataclasses.replace(ALL, originals=False)
    drawn = transforms.draw(config, 1, 2, rows, repeats)
    stays = (drawn == np.float32(transforms.IDENTITY)).all(axis=1)
    assert stays.tolist() == [True, False, False, True, False]
    assert np.array_equal(drawn[~stays], transforms.draw(ALL, 1, 2, rows, repeats)[~stays])


def test_cosine_and_sine_are_exact_to_the_last_digit_of_float32_for_half_a_turn() -> None:
    angles = np.linspace(-math.pi, math.pi, 2001)
    expected = [np.cos(angles), np.sin(angles)]
    np.testing.assert_allclose(transforms._cosine_and_sine(angles), expected, atol=1e-9)


def test_an_empty_batch_has_no_transforms() -> None:
    assert transforms.draw(ALL, 0, 0, np.empty(0, np.int64), np.empty(0, np.int64)).shape == (0, 8)

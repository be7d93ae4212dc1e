"""How each training picture is varied: numbers that follow from seed, epoch, record and repeat alone.

A hash of the four gives the numbers, so they don't depend on which batch, thread or machine asks, and nothing
has to be kept to resume. All arithmetic is of integers and of additions, multiplications and divisions, which
every machine rounds alike; libraries differ in the last digit of a cosine. Pictures are varied by
`model.augment`, on the device.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from engine.config import AugmentConfig

# Of a transform: six of the affine map, contrast, brightness.
NUMBERS = 8
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)

# SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", with its finaliser.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
# No split has as many rows, so a row and a repeat go into one word.
_ROW_BITS = np.uint64(40)
# Each kind of change has a draw of its own, so that setting one range leaves the others' draws as they are.
_DRAWS = ("rotation", "zoom", "shift_x", "shift_y", "brightness", "contrast", "flip")
_STEPS = _INCREMENT * np.arange(1, len(_DRAWS) + 1, dtype=np.uint64)[:, None]
# Taylor's series of cos x and of sin x / x in x^2, enough for half a turn in float32.
_COEFFICIENTS = np.array(
    [[(-1) ** k / math.factorial(2 * k + odd) for odd in (0, 1)] for k in range(11)], np.float64
)[..., None]


def draw(config: AugmentConfig, seed: int, epoch: int, rows: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Draw the transforms of some records in one epoch.

    Numbers 0 to 5 map an output pixel to the place of the input that it shows: x' = n0 x + n1 y + n2 and
    y' = n3 x + n4 y + n5, in sides from the picture's centre, x to the right, y down. Number 6 multiplies
    the contrast about the picture's mean, number 7 is added, in shares of the full scale.

    Args:
        config: the ranges; each is drawn from evenly.
        seed: 0 <= seed < 2^64.
        epoch: counted from 0.
        rows: (B,) integers, rows of the split's index.
        repeats: (B,) integers, 0 for the record itself, from 1 on for its repeats.

    Returns:
        (B, 8) float32; `IDENTITY` where nothing is changed.
    """
    drawn = _transforms(config, 2 * _uniforms(seed, epoch, rows, repeats) - 1)
    if not config.originals:
        drawn[np.equal(repeats, 0)] = IDENTITY
    return drawn


def _transforms(config: AugmentConfig, centred: np.ndarray) -> np.ndarray:
    """Turn (7, B) draws from [-1, 1) into (B, 8) float32: flipped, then zoomed, turned and shifted."""
    rotation, zoom, shift_x, shift_y, brightness, contrast, flip = centred
    cosine, sine = _cosine_and_sine(rotation * (config.rotation_degrees * (math.pi / 180)))
    factor = 1 + config.zoom * zoom
    across = np.where(config.flip & (flip < 0), -1.0, 1.0)
    shift_x, shift_y = config.shift * shift_x, config.shift * shift_y
    # From the output back to the input, so each step is undone, the last one first.
    cosine, sine = cosine / factor, sine / factor
    drawn = np.empty((centred.shape[1], NUMBERS), np.float32)
    drawn[:, 0], drawn[:, 1] = across * cosine, across * sine
    drawn[:, 2] = -across * (cosine * shift_x + sine * shift_y)
    drawn[:, 3], drawn[:, 4] = -sine, cosine
    drawn[:, 5] = sine * shift_x - cosine * shift_y
    drawn[:, 6] = 1 + config.contrast * contrast
    drawn[:, 7] = config.brightness * brightness
    return drawn


def _cosine_and_sine(radians: np.ndarray) -> np.ndarray:
    """(B,) float64 angles of at most half a turn -> (2, B), exact to 1e-9."""
    square = radians * radians
    series = np.repeat(_COEFFICIENTS[-1], len(radians), axis=1)
    for coefficients in _COEFFICIENTS[-2::-1]:
        series *= square
        series += coefficients
    series[1] *= radians
    return series


def _uniforms(seed: int, epoch: int, rows: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Return (7, B) float64, multiples of 2^-53 in [0, 1): SplitMix64's streams, one for each record."""
    record = np.asarray(rows).astype(np.uint64) | np.asarray(repeats).astype(np.uint64) << _ROW_BITS
    state = _absorb(_epoch_state(seed, epoch), record)
    return (_mix(state + _STEPS) >> np.uint64(11)) * 2.0**-53


@functools.lru_cache(maxsize=2)
def _epoch_state(seed: int, epoch: int) -> np.ndarray:
    """(1,) uint64: as an array, because NumPy warns where a scalar overflows."""
    return _absorb(_absorb(np.zeros(1, np.uint64), np.uint64(seed)), np.uint64(epoch))


def _absorb(state: np.ndarray, word: np.ndarray | np.uint64) -> np.ndarray:
    return _mix((state ^ word) + _INCREMENT)


def _mix(words: np.ndarray) -> np.ndarray:
    """Turn uint64 words into others, one to one; each bit of the input sways each of the output."""
    words = (words ^ (words >> _SHIFTS[0])) * _FACTORS[0]
    words = (words ^ (words >> _SHIFTS[1])) * _FACTORS[1]
    return words ^ (words >> _SHIFTS[2])

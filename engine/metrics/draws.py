"""Draws of patients, the same for whatever is judged on them, handed out in blocks to all cores.

Patients are drawn, not images: images of one patient are alike, and by image intervals come out too narrow.
What is computed on a draw is `bootstrap`'s. N = images, P = patients, D = draws, B = draws of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike

from records.errors import RunError, UsageError
from records.machine import usable_cores

DRAWS = 1000
LEAST_DRAWS = 100
# More take more memory and no less time.
BLOCK_DRAWS = 32


def check_draws(draws: int) -> None:
    """Refuse a command's draws where the ends of an interval would hang on one or two of them.

    Raises:
        UsageError: they are fewer than `LEAST_DRAWS`.
    """
    if draws < LEAST_DRAWS:
        raise UsageError(f"--draws is {draws}; expected at least {LEAST_DRAWS}")


class PatientDraws:
    """As many patients as there are, drawn with replacement, D times.

    Each draw has a random generator of its own and draws from the patients in sorted order, so it depends on
    the patients, the seed and its number alone: not on D, on blocks, on threads or on the images' order.

    Args:
        patient_ids: (N,), numbers or names.
        draws: D.
        seed: not negative.

    Raises:
        RunError: there is not one patient per image, or less than one draw.
    """

    def __init__(self, patient_ids: ArrayLike, draws: int = DRAWS, seed: int = 0) -> None:
        ids = np.asarray(patient_ids)
        if ids.ndim != 1:
            raise RunError(f"expected one patient per image, got an array of shape {ids.shape}")
        if draws < 1:
            raise RunError(f"{draws} draws; expected at least 1")
        patients, of_image = np.unique(ids, return_inverse=True)
        self.patients, self.draws, self._seed = len(patients), draws, seed
        self.of_image = of_image.astype(np.int32)  # (N,): place of each image's patient

    def counts(self, first: int, last: int) -> np.ndarray:
        """Return how often each patient was drawn in draws first..last - 1; (P, B) int32."""
        drawn = np.empty((last - first, self.patients), np.int32)
        for place, number in enumerate(range(first, last)):
            rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(number,)))
            patients = rng.integers(max(1, self.patients), size=self.patients)
            drawn[place] = np.bincount(patients, minlength=self.patients)
        return np.ascontiguousarray(drawn.T)

    def on_all(self, judge: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Judge all draws, in blocks on all cores that this process may use.

        Args:
            judge: from the counts (P, B) of a block to its values (..., B); called from several threads.

        Returns:
            (..., D); NaN throughout where there is one patient, since all draws are the same then.
        """
        # All blocks are whole, since NumPy adds up a lone draw in another order than one among others.
        starts = range(0, self.draws, BLOCK_DRAWS)
        with ThreadPoolExecutor(usable_cores()) as threads:
            blocks = threads.map(lambda first: judge(self.counts(first, first + BLOCK_DRAWS)), starts)
            values = np.concatenate(list(blocks), axis=-1)[..., : self.draws]
        return values if self.patients > 1 else np.full(values.shape, np.nan)

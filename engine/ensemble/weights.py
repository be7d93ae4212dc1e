"""How much each member counts, fitted to macro AUROC; whether to trust a fit is `guard`'s business.

Nothing here is random. M = members, N = images, F = findings.
"""

from __future__ import annotations

import numpy as np

from engine.ensemble.combine import PROBABILITIES

EQUAL, FITTED, GREEDY = "equal", "fitted", "greedy"
METHODS = (EQUAL, FITTED, GREEDY)
GREEDY_ROUNDS = 30
_FIRST_STEP, _LAST_STEP = 0.25, 0.005
# Less than this is noise on any validation split.
_LEAST_GAIN = 1e-6


class MacroAuroc:
    """Macro AUROC as a function of the weights.

    Args:
        logits: (M, N, F), finite.
        labels: (N, F) of 0 and 1.
        rule: of `combine.RULES`. Weighted means of probabilities are ranked as they are: for that, their
            logits aren't needed.

    Attributes:
        members: M.
        is_defined: whether any finding has both positives and negatives.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, rule: str) -> None:
        averaged = np.exp(-np.logaddexp(0.0, -logits)) if rule == PROBABILITIES else logits
        found = np.asarray(labels) == 1
        self.members = len(logits)
        self._findings = [
            (averaged[:, found[:, finding], finding], averaged[:, ~found[:, finding], finding])
            for finding in np.flatnonzero(found.any(axis=0) & ~found.all(axis=0))
        ]
        self.is_defined = bool(self._findings)

    def __call__(self, weights: np.ndarray) -> float:
        """Return the macro AUROC with weights (M,) that sum to 1."""
        shares = weights[:, None]
        # Sums, not products of matrices: equal pictures stay equal to the last bit, wherever they stand.
        values = [
            _auroc((shares * positives).sum(axis=0), (shares * negatives).sum(axis=0))
            for positives, negatives in self._findings
        ]
        return float(np.mean(values))


def equal(members: int) -> np.ndarray:
    """(M,) weights that are alike."""
    return np.full(members, 1 / members)


def fit(macro_auroc: MacroAuroc, method: str) -> np.ndarray:
    """Return (M,) weights that sum to 1, by a method of `METHODS`; equal ones where nothing is defined."""
    if method == EQUAL or not macro_auroc.is_defined:
        return equal(macro_auroc.members)
    return search(macro_auroc) if method == FITTED else select(macro_auroc)


def search(macro_auroc: MacroAuroc) -> np.ndarray:
    """Climb from equal weights: the best of moving towards or away from each member, by ever smaller steps.

    A compass search (Kolda, Lewis and Torczon 2003, SIAM Review 45(3)), because AUROC goes by jumps and has
    no gradient.
    """
    weights, step = equal(macro_auroc.members), _FIRST_STEP
    reached = macro_auroc(weights)
    while step >= _LAST_STEP:
        moves = _moves(weights, step)
        values = [macro_auroc(moved) for moved in moves]
        best = int(np.argmax(values))
        if values[best] > reached + _LEAST_GAIN:
            weights, reached = moves[best], values[best]
        else:
            step /= 2
    return weights


def select(macro_auroc: MacroAuroc, rounds: int = GREEDY_ROUNDS) -> np.ndarray:
    """Add, again and again and with replacement, the member that helps most; the best bag on the way is kept.

    Source: Caruana et al. 2004, "Ensemble selection from libraries of models".

    Args:
        macro_auroc: to be raised.
        rounds: members in the largest bag.
    """
    counts, kept, reached = np.zeros(macro_auroc.members), equal(macro_auroc.members), -np.inf
    for size in range(1, rounds + 1):
        values = [macro_auroc((counts + one) / size) for one in np.eye(macro_auroc.members)]
        best = int(np.argmax(values))
        counts[best] += 1
        if values[best] > reached + _LEAST_GAIN:
            kept, reached = counts / size, values[best]
    return kept


def _moves(weights: np.ndarray, step: float) -> list[np.ndarray]:
    """The weights moved by `step` towards each member, and away from each that has company."""
    moves = []
    for one in np.eye(len(weights)):
        moves.append((1 - step) * weights + step * one)
        less = np.maximum(weights - step * one, 0.0)
        if less.sum() > 0:
            moves.append(less / less.sum())
    return moves


def _auroc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """AUROC of one finding, ties counting half: `engine.metrics.auroc` for the inner loop."""
    ranked = np.sort(negatives)
    below, reached = np.searchsorted(ranked, positives, "left"), np.searchsorted(ranked, positives, "right")
    return float((below.sum() + reached.sum()) / (2 * len(positives) * len(negatives)))

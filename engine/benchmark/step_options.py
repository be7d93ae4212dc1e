"""Which variants of the training step are to be measured, and how: checked when they are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.benchmark.windows import ROUNDS
from engine.config.train import COMPILATIONS, PRECISIONS, TrainConfig
from records.errors import UsageError


class Variant(NamedTuple):
    """One way to run the step.

    Attributes:
        precision: Keras's dtype policy.
        compilation: by XLA: `auto`, `always` or `never`.
        batch: records of a step.
    """

    precision: str
    compilation: str
    batch: int


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is to be measured.

    Attributes:
        precisions: of `PRECISIONS`.
        compilations: of `COMPILATIONS`.
        batches: records of a step.
        steps: measured of each part in each round.
        rounds: of all parts of all variants in turn.
        breakdown: whether forward, and forward and backward, are measured beside whole steps.
    """

    precisions: tuple[str, ...]
    compilations: tuple[str, ...]
    batches: tuple[int, ...]
    steps: int = 5
    rounds: int = ROUNDS
    breakdown: bool = True

    def __post_init__(self) -> None:
        _known("--precisions", self.precisions, PRECISIONS)
        _known("--compilations", self.compilations, COMPILATIONS)
        if not self.batches or min(*self.batches, self.steps, self.rounds) < 1:
            raise UsageError(
                f"batches of {', '.join(map(str, self.batches)) or 'nothing'}, {self.steps} steps, "
                f"{self.rounds} rounds; expected at least 1 of each"
            )

    @property
    def variants(self) -> list[Variant]:
        """All of them, each once."""
        return [
            Variant(precision, compilation, batch)
            for precision in dict.fromkeys(self.precisions)
            for compilation in dict.fromkeys(self.compilations)
            for batch in dict.fromkeys(self.batches)
        ]


def of_words(
    train: TrainConfig, *, precisions: str, compilations: str, batches: str, steps: int, breakdown: bool
) -> Options:
    """Read the command's lists, such as `16,32`; where one is empty, the config's own value is measured.

    Raises:
        UsageError: a word isn't known, or a number isn't one.
    """
    try:
        sizes = tuple(int(word) for word in _words(batches)) or (train.global_batch,)
    except ValueError:
        raise UsageError(f"--batches {batches}; expected whole numbers, such as 16,32") from None
    return Options(
        precisions=_words(precisions) or (train.precision,),
        compilations=_words(compilations) or (train.compilation,),
        batches=sizes,
        steps=steps,
        breakdown=breakdown,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _known(flag: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not words or not set(words) <= set(known):
        raise UsageError(
            f"{flag} {','.join(words)}; expected some of {', '.join(known)}, with commas between"
        )

"""`engine losses`: does the trainings that are still missing, then ranks the losses by all of them."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import backend, metrics
from engine.comparison import chart, ranking, results, trainings
from engine.comparison.trainings import Outcome, Outcomes, Training
from engine.config import comparison as settings
from engine.config.comparison import BASELINE, LossComparison
from engine.input.cache import CacheSettings, default_folder
from engine.input.reader import ShardReader
from engine.training.interrupts import Interrupts
from records import manifest, storage
from records.errors import RunError
from records.manifest import Manifest

# The test split is no part of what a comparison is given, so nothing in it can open that.
SPLITS = ("train", "validation")
_OWN_ENTRIES = {trainings.FOLDER_NAME, results.JSON_NAME, results.CSV_NAME, results.CHART_NAME}


def run(config_path: str, data: str, out: str, overrides: Sequence[str] = ()) -> int:
    """Compare losses and leave the trainings, a table and a chart in a folder.

    Args:
        config_path: of the YAML file.
        data: location of the manifest.
        out: folder of the comparison; trainings that it holds are not done again.
        overrides: `section.key=value` each.

    Returns:
        0; 130 when interrupted, 75 when the machine goes down: the same command then goes on.

    Raises:
        CxrError: the config, the data set or the folder is at fault.
    """
    config = settings.load(config_path, overrides)
    whole = manifest.load(data)
    data_set = dataclasses.replace(whole, splits={name: whole.splits[name] for name in SPLITS})
    _check_splits(data_set)
    manifest.check_files(data_set)
    folder = _checked_folder(out)
    if storage.is_remote(data_set.location):
        storage.make_folder(str(default_folder()))
    work = _Work(config, data_set, Outcomes(folder, whole.sha256))
    try:
        with Interrupts(work.summary) as interrupts:
            tuned, rates, outcomes = work.run(interrupts.check)
    except KeyboardInterrupt:
        print(work.summary(), file=sys.stderr)
        return interrupts.exit_code
    ranked = _ranked(config, data_set, outcomes)
    compared = results.Comparison(config, data_set, whole.sha256, rates, tuned, outcomes, ranked)
    results.write(folder, compared)
    chart.write(folder, compared)
    results.print_table(compared)
    print(*(folder / name for name in (results.CSV_NAME, results.JSON_NAME, results.CHART_NAME)), sep="\n")
    return 0


class _Work:
    """All trainings of a comparison: those that the folder holds, and the missing ones, done in turn."""

    def __init__(self, config: LossComparison, data_set: Manifest, outcomes: Outcomes) -> None:
        self._config, self._data_set, self._outcomes = config, data_set, outcomes
        self._total = len(trainings.tuning(config)) + len(config.comparison.losses) * len(
            config.comparison.seeds
        )
        self._done = 0

    def summary(self) -> str:
        """How far it came."""
        return f"interrupted after {self._done} of {self._total} trainings; the same command goes on"

    def run(
        self, check: Callable[[], None]
    ) -> tuple[list[dict[float, float]], list[float], list[list[Outcome]]]:
        """Choose rates and train.

        Args:
            check: called between steps; what it raises ends the work.

        Returns:
            Of each loss: macro AUROC by rate (nothing where there is one rate), its rate, its outcomes.
        """
        losses, rates = self._config.comparison.losses, self._config.learning_rates
        trials = self._trained(trainings.tuning(self._config), check)
        tuned = [
            {rate: metrics.macro(trial.auroc) for rate, trial in zip(rates, of_loss, strict=True)}
            for of_loss in (trials[first : first + len(rates)] for first in range(0, len(trials), len(rates)))
        ]
        chosen = [_best(by_rate) for by_rate in tuned] or [rates[0]] * len(losses)
        outcomes = self._trained(trainings.counted(self._config, chosen), check)
        return tuned, chosen, [outcomes[place :: len(losses)] for place in range(len(losses))]

    def _trained(self, wanted: Sequence[Training], check: Callable[[], None]) -> list[Outcome]:
        found = {training: self._outcomes.read(training) for training in wanted}
        self._done += sum(outcome is not None for outcome in found.values())
        return [found[training] or self._train(training, check) for training in wanted]

    def _train(self, training: Training, check: Callable[[], None]) -> Outcome:
        if "tensorflow" not in sys.modules:
            print("starting TensorFlow ...", file=sys.stderr, flush=True)
            backend.load()
        from engine.comparison import units

        units.prepare()
        outcome = units.train(training.config, self._data_set, check)
        self._outcomes.write(training, outcome)
        self._done += 1
        gave = "diverged" if outcome.diverged else f"macro AUROC {metrics.macro(outcome.auroc):.3f}"
        print(
            f"{self._done}/{self._total} {training.name}: {gave}, {outcome.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
        return outcome


def _best(by_rate: dict[float, float]) -> float:
    return max(by_rate, key=lambda rate: -math.inf if math.isnan(by_rate[rate]) else by_rate[rate])


def _ranked(
    config: LossComparison, data_set: Manifest, outcomes: Sequence[Sequence[Outcome]]
) -> ranking.Ranking:
    losses = config.comparison.losses
    ranking.check_fair(outcomes, config.comparison.seeds, trainings.labels_of(losses))
    cached = CacheSettings(default_folder(), config.input.cache_bytes)
    with ShardReader(data_set, "validation", cache_settings=cached) as reader:
        labels, (_, patient_ids) = reader.labels(), reader.identities()
    return ranking.rank(
        outcomes,
        labels,
        patient_ids,
        baseline=[loss.name for loss in losses].index(BASELINE),
        draws=config.comparison.bootstrap_draws,
    )


def _check_splits(data_set: Manifest) -> None:
    for name in SPLITS:
        if not data_set.splits[name].images:
            raise RunError(
                f"{data_set.location}: the {name} split is empty; a comparison needs both train and "
                "validation: convert with other fractions or more images"
            )
    split = data_set.splits["validation"]
    if not any(0 < positives < split.images for positives in split.positives.values()):
        raise RunError(
            f"{data_set.location}: no finding has both positive and negative validation images, so macro "
            "AUROC is not defined; convert with other fractions or more images"
        )


def _checked_folder(out: str) -> Path:
    if storage.is_remote(out):
        raise RunError(f"{out}: a store; expected a local folder for --out")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{out}: not a folder; choose another --out")
    strange = sorted(entry.name for entry in folder.glob("[!.]*") if entry.name not in _OWN_ENTRIES)
    if strange:
        raise RunError(
            f"{out}: holds something else than a comparison of losses ({strange[0]}); choose another --out"
        )
    return folder

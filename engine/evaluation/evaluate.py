"""`engine evaluate`: a run's model on validation and then, with all choices frozen, on test."""

from __future__ import annotations

import sys
from typing import Any

from engine.evaluation import judgement, lock, models, printed
from engine.evaluation.judgement import TEST, VALIDATION, Judgement
from engine.metrics import bootstrap
from engine.training import run_data_set, run_directory
from engine.training.run_directory import RunDirectory
from records import manifest
from records.errors import RunError, UsageError

# Another model may come of such a run, and test is to be read by one only.
_CAN_GO_ON = (run_directory.UNFINISHED, run_directory.INTERRUPTED)


def run(
    run_dir: str,
    *,
    split: str | None = None,
    data: str | None = None,
    draws: int = bootstrap.DRAWS,
    reread_test: bool = False,
) -> int:
    """Judge what a run directory holds, a single model or an ensemble.

    Args:
        run_dir: folder of the run.
        split: `validation` or `test`; None: both, but validation alone of a run that can go on. Test needs
            what is chosen on validation, so validation is judged before it in either case.
        data: location of the manifest, where it isn't where the run found it.
        draws: of patients, for intervals.
        reread_test: let another model than the one that has read test before read it.

    Returns:
        0.

    Raises:
        CxrError: run directory, model or data set are at fault, another model has read test, or another
            process is judging the run.
    """
    if split not in (None, VALIDATION, TEST):
        raise UsageError(f"split is `{split}`; expected {VALIDATION} or {TEST}")
    bootstrap.check_draws(draws)
    directory = RunDirectory(run_dir)
    known = directory.read()
    if known["state"] != run_directory.FINISHED:
        print(f"note: {run_dir}: {run_directory.summary(directory)}", file=sys.stderr)
    if split is None and known["state"] in _CAN_GO_ON:
        print(
            f"note: {run_dir}: test isn't read before the run is finished: go on with `engine train --resume "
            "auto`; `--split test` reads it all the same",
            file=sys.stderr,
        )
        split = VALIDATION
    data_set = run_data_set.find(known, data)
    manifest.check_files(data_set)
    with lock.held(directory.path):
        judged = Judgement(directory, models.find(run_dir), data_set, draws)
        if split != VALIDATION:
            judged.check_test(reread_test=reread_test)
        splits = _splits(split, data_set)
        for name in splits:
            metrics = judged.validation() if name == VALIDATION else judged.test(reread_test=reread_test)
            _show(directory, metrics, brief=name != splits[-1])
    return 0


def _show(directory: RunDirectory, metrics: dict[str, Any], *, brief: bool) -> None:
    # Where test follows, validation's choices are shown there, applied to images that didn't choose them.
    printed.print_metrics(metrics, brief=brief)
    print("\n".join(map(str, judgement.paths(directory, metrics["split"]))), end="\n\n")


def _splits(split: str | None, data_set: manifest.Manifest) -> list[str]:
    """The splits to judge, validation first; those that hold no images are left out, and that is said."""
    asked = [split] if split else [VALIDATION, TEST]
    empty = [name for name in asked if not data_set.splits[name].images]
    if len(empty) == len(asked):
        raise RunError(f"{data_set.location}: no image in {' and '.join(empty)}; nothing to judge")
    for name in empty:
        print(f"note: {data_set.location}: no image in {name}, which isn't judged", file=sys.stderr)
    return [name for name in asked if name not in empty]

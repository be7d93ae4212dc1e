"""The `engine` command: parses flags and makes one call; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from engine import flags
from records.errors import CxrError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 the data or the run is at fault, 2 wrong usage, 130 interrupted.
    """
    given = flags.parser().parse_args(argv)
    try:
        return _CALLS[given.call](given)
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has seen enough; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def console() -> NoReturn:
    """Run the command of the process's own arguments and end the process."""
    code = main()
    if "tensorflow" in sys.modules:
        # At the interpreter's end TensorFlow takes down threads that still run Python, and TensorFlow I/O
        # calls what is gone (tensorflow/io#2039): either aborts a process that has done its work.
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _train(given: argparse.Namespace) -> int:
    if len(given.config) > 1:
        from engine.training import in_turn

        more = ["--overwrite"] if given.overwrite else ["--resume", given.resume] if given.resume else []
        return in_turn.run(given.config, given.data, given.run_dir, given.overrides, more)
    from engine.training import train

    return train.run(
        given.config[0],
        given.data,
        given.run_dir,
        given.overrides,
        overwrite=given.overwrite,
        resume=given.resume is not None,
    )


def _losses(given: argparse.Namespace) -> int:
    from engine.comparison import compare

    return compare.run(given.config, given.data, given.out, given.overrides)


def _evaluate(given: argparse.Namespace) -> int:
    from engine.evaluation import evaluate

    return evaluate.run(
        given.run_dir,
        split=given.split,
        data=given.data,
        draws=given.draws,
        reread_test=given.reread_test,
    )


def _ensemble(given: argparse.Namespace) -> int:
    from engine.ensemble import ensemble

    return ensemble.run(
        given.run_dirs,
        given.output,
        rule=given.rule,
        weights=given.weights,
        soup=given.soup,
        tta=given.tta,
        data=given.data,
        overwrite=given.overwrite,
        draws=given.draws,
    )


def _heatmaps(given: argparse.Namespace) -> int:
    from engine.heatmaps import heatmaps

    return heatmaps.run(
        given.run_dir,
        given.boxes,
        data=given.data,
        findings=given.findings,
        attention=given.attention,
        cbam=given.cbam,
        images=given.images,
        draws=given.draws,
    )


def _report(given: argparse.Namespace) -> int:
    from engine.report import page

    return page.run(given.run_dir, data=given.data, compare=given.compare)


def _predict(given: argparse.Namespace) -> int:
    from engine.prediction import predict

    return predict.run(given.run_dir, given.images, as_json=given.json, thresholds=given.thresholds)


def _serve(given: argparse.Namespace) -> int:
    from engine.serving import serve

    return serve.run(given.run_dir, data=given.data, boxes=given.boxes, host=given.host, port=given.port)


def _run(given: argparse.Namespace) -> int:
    from engine.pipeline import pipeline

    return pipeline.run(given.config, given.overrides, dry_run=given.dry_run)


def _inspect(given: argparse.Namespace) -> int:
    from engine.report import augmented_sheet, inspect_data

    if given.augmented or given.config:
        augmented_sheet.run(given.data, given.config, given.augmented)
    return inspect_data.run(given.data, given.images, given.png, given.json, given.split, given.report)


def _benchmark_step(given: argparse.Namespace) -> int:
    from engine import backend

    backend.load()
    from engine.benchmark import step_rate

    return step_rate.run(
        given.config,
        given.overrides,
        data=given.data,
        precisions=given.precisions,
        compilations=given.compilations,
        batches=given.batches,
        steps=given.steps,
        breakdown=not given.whole,
        png=given.png,
        as_json=given.json,
    )


def _benchmark_input(given: argparse.Namespace) -> int:
    from engine import backend

    backend.load()
    from engine.benchmark import input_diagnosis

    return input_diagnosis.run(
        given.data,
        seconds=given.seconds,
        images=given.images,
        batch=given.batch,
        source=given.source,
        step_ms=given.step_ms,
        threads=given.threads,
        config=given.config,
        png=given.png,
        as_json=given.json,
    )


_CALLS = {
    "train": _train,
    "losses": _losses,
    "evaluate": _evaluate,
    "ensemble": _ensemble,
    "heatmaps": _heatmaps,
    "report": _report,
    "predict": _predict,
    "serve": _serve,
    "run": _run,
    "inspect": _inspect,
    "benchmark step": _benchmark_step,
    "benchmark input": _benchmark_input,
}


if __name__ == "__main__":
    console()

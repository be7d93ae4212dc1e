"""The `engine` command: parses flags and makes one call; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from records.errors import CxrError
from records.splits import SPLITS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 the data or the run is at fault, 2 wrong usage, 130 interrupted.
    """
    flags = _parser().parse_args(argv)
    try:
        return flags.run(flags)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="engine",
        description="Train and judge chest X-ray models on TFRecord shards.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_losses(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_inspect(commands)
    _add_benchmark(commands)
    return parser


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", required=True, metavar="MANIFEST", help="manifest.json, local, s3:// or gs://"
    )


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="override one key of the config, or SECTION={...} all of one; may be repeated",
    )


def _add_train(commands) -> None:
    command = _command(commands, "train", "train a model on the shards of a manifest", _train)
    command.add_argument(
        "--config",
        required=True,
        nargs="+",
        metavar="YAML",
        help="such as configs/baseline.yaml; several are trained in turn, into RUN/NAME each",
    )
    _add_data(command)
    command.add_argument("--run-dir", required=True, metavar="RUN", help="folder of the run")
    _add_overrides(command)
    begin = command.add_mutually_exclusive_group()
    begin.add_argument("--overwrite", action="store_true", help="replace what the run directory holds")
    begin.add_argument(
        "--resume",
        choices=["auto"],
        help="go on with the run that RUN or checkpoint.location holds; begin it if there is none",
    )


def _add_losses(commands) -> None:
    command = _command(commands, "losses", "compare losses on a small model, ranked on validation", _losses)
    command.add_argument("--config", required=True, metavar="YAML", help="such as configs/losses.yaml")
    _add_data(command)
    command.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the trainings, the table and the chart"
    )
    _add_overrides(command)
    command.add_argument(
        "--resume",
        choices=["auto"],
        default="auto",
        help="finished trainings in DIR are not done again (%(default)s)",
    )


def _add_evaluate(commands) -> None:
    command = _command(commands, "evaluate", "judge a run's best model on one split", _evaluate)
    command.add_argument("--run-dir", required=True, metavar="RUN")
    command.add_argument("--split", choices=SPLITS, default="test", help="(%(default)s)")
    command.add_argument("--data", metavar="MANIFEST", help="where the run's data set lies now")


def _add_report(commands) -> None:
    command = _command(commands, "report", "write one self-contained HTML page on a run", _report)
    command.add_argument("--run-dir", required=True, metavar="RUN")
    command.add_argument("--split", choices=SPLITS, default="test", help="(%(default)s)")
    command.add_argument("--data", metavar="MANIFEST", help="where the run's data set lies now")


def _add_inspect(commands) -> None:
    command = _command(commands, "inspect", "show a data set at a glance", _inspect)
    command.add_argument("data", metavar="MANIFEST", help="manifest.json, local, s3:// or gs://")
    command.add_argument(
        "--images", type=int, default=16, metavar="N", help="on the contact sheet (%(default)s)"
    )
    command.add_argument("--png", metavar="FILE", help="write a contact sheet with labels")
    command.add_argument("--report", metavar="FILE", help="write one HTML page of plots and sample images")
    command.add_argument(
        "--augmented", metavar="FILE", help="write a contact sheet of augmented training images"
    )
    command.add_argument("--config", metavar="YAML", help="whose augmentation that shows")
    command.add_argument("--split", choices=SPLITS, help="of the contact sheet (the first that holds any)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_step_benchmark(kinds) -> None:
    command = _command(
        kinds, "step", "how fast training steps are, and where their time goes", _benchmark_step
    )
    command.add_argument("--config", required=True, metavar="YAML", help="such as configs/baseline.yaml")
    _add_overrides(command)
    command.add_argument("--data", metavar="MANIFEST", help="for real input beside synthetic batches")
    for name in ("precisions", "compilations", "batches"):
        command.add_argument(f"--{name}", default="", metavar="A,B", help="(the config's)")
    command.add_argument(
        "--steps", type=int, default=5, metavar="N", help="of each part in each round (%(default)s)"
    )
    command.add_argument("--whole", action="store_true", help="whole steps alone, not their parts")
    command.add_argument("--png", metavar="FILE", help="write a chart")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_benchmark(commands) -> None:
    parser = commands.add_parser("benchmark", help="measure", description="Measure.", allow_abbrev=False)
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    _add_step_benchmark(kinds)
    command = _command(
        kinds, "input", "where the training input's time goes, and what bounds it", _benchmark_input
    )
    _add_data(command)
    command.add_argument(
        "--from",
        choices=("local", "s3"),
        default="local",
        dest="source",
        help="local copies, warm, or a store through an empty cache (%(default)s)",
    )
    command.add_argument("--seconds", type=float, default=10.0, help="for each input (%(default)s)")
    command.add_argument("--batch", type=int, default=64, help="(%(default)s)")
    command.add_argument("--step-ms", type=float, metavar="MS", help="emulate a device of so long a batch")
    command.add_argument("--threads", type=int, metavar="N", help="that gather and decode (as training does)")
    command.add_argument("--config", metavar="YAML", help="for order, augmentation and the cache's limit")
    command.add_argument("--images", metavar="SRC", help="the PNGs, where they moved since the conversion")
    command.add_argument("--png", metavar="FILE", help="write a chart")
    command.add_argument("--json", action="store_true", help="print JSON")


def _command(commands, name: str, text: str, run) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    command.set_defaults(run=run)
    return command


def _train(flags: argparse.Namespace) -> int:
    if len(flags.config) > 1:
        from engine.training import in_turn

        more = ["--overwrite"] if flags.overwrite else ["--resume", flags.resume] if flags.resume else []
        return in_turn.run(flags.config, flags.data, flags.run_dir, flags.overrides, more)
    from engine.training import train

    return train.run(
        flags.config[0],
        flags.data,
        flags.run_dir,
        flags.overrides,
        overwrite=flags.overwrite,
        resume=flags.resume is not None,
    )


def _losses(flags: argparse.Namespace) -> int:
    from engine.comparison import compare

    return compare.run(flags.config, flags.data, flags.out, flags.overrides)


def _evaluate(flags: argparse.Namespace) -> int:
    from engine.evaluation import evaluate

    return evaluate.run(flags.run_dir, flags.split, flags.data)


def _report(flags: argparse.Namespace) -> int:
    from engine.report import page

    return page.run(flags.run_dir, flags.split, flags.data)


def _inspect(flags: argparse.Namespace) -> int:
    from engine.report import augmented_sheet, inspect_data

    if flags.augmented or flags.config:
        augmented_sheet.run(flags.data, flags.config, flags.augmented)
    return inspect_data.run(flags.data, flags.images, flags.png, flags.json, flags.split, flags.report)


def _benchmark_step(flags: argparse.Namespace) -> int:
    from engine import backend

    backend.load()
    from engine.benchmark import step_rate

    return step_rate.run(
        flags.config,
        flags.overrides,
        data=flags.data,
        precisions=flags.precisions,
        compilations=flags.compilations,
        batches=flags.batches,
        steps=flags.steps,
        breakdown=not flags.whole,
        png=flags.png,
        as_json=flags.json,
    )


def _benchmark_input(flags: argparse.Namespace) -> int:
    from engine import backend

    backend.load()
    from engine.benchmark import input_diagnosis

    return input_diagnosis.run(
        flags.data,
        seconds=flags.seconds,
        images=flags.images,
        batch=flags.batch,
        source=flags.source,
        step_ms=flags.step_ms,
        threads=flags.threads,
        config=flags.config,
        png=flags.png,
        as_json=flags.json,
    )


if __name__ == "__main__":
    console()

"""The Beam pipeline: work items -> files, on any runner."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner

from records.errors import UsageError, WorkerError

# Named, because `DirectRunner` first tries to fetch another runner. It starts processes, not threads:
# the PNG decoder holds the interpreter's lock.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def run(work: Callable[[Any], str], items: Sequence[Any], beam_flags: Sequence[str]) -> None:
    """Do the work of each item and wait until all is done.

    Args:
        work: a function of a module, or a partial of one, so that workers find it by name; it leaves its
            result in a file and returns where.
        items: one each; they travel, so they hold references and no pixels.
        beam_flags: Beam's flags; without `--runner`, local processes, one for each usable core.
    """
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    options = PipelineOptions([*local_flags(len(items), beam_flags), *beam_flags])
    with _worker_deaths_noticed(), beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "List work items" >> beam.Create(list(items))
            | "Do work items" >> beam.Map(work)  # str: where the result is
        )


@contextlib.contextmanager
def _worker_deaths_noticed() -> Iterator[None]:
    """Raise when a local worker process dies, say of the out-of-memory killer.

    Beam's thread that watches the process raises and ends, and the launcher would wait for its results for
    ever. Only a signal wakes the main thread from that wait.

    Raises:
        WorkerError: from within the block.
    """
    main_thread = threading.main_thread()
    if threading.current_thread() is not main_thread:
        yield
        return
    usual_hook = threading.excepthook
    others: list[threading.ExceptHookArgs] = []
    died = False

    def notice(arguments: threading.ExceptHookArgs) -> None:
        if "Worker subprocess exited" in str(arguments.exc_value):
            signal.pthread_kill(main_thread.ident or 0, signal.SIGUSR2)
        else:
            others.append(arguments)

    usual_handler = signal.signal(signal.SIGUSR2, _raise_worker_error)
    threading.excepthook = notice
    try:
        yield
    except (WorkerError, KeyboardInterrupt):
        died = True  # Beam's other threads miss the worker, too, and would say so at length
        logging.getLogger().setLevel(logging.CRITICAL)
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        raise
    finally:
        signal.signal(signal.SIGUSR2, usual_handler)
        if not died:
            threading.excepthook = usual_hook
            for arguments in others:
                usual_hook(arguments)


def _raise_worker_error(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise WorkerError(
        "a worker process was killed, perhaps for want of memory; "
        "run the command again with --resume, and with fewer --direct_num_workers"
    )


def local_flags(items: int, beam_flags: Sequence[str]) -> list[str]:
    """Return the flags of the local runner, or none where a runner is named."""
    if any(flag == "--runner" or flag.startswith("--runner=") for flag in beam_flags):
        return []
    workers = min(usable_cores(), max(items, 1))
    flags = [f"--runner={LOCAL_RUNNER}"]
    if not any(flag.startswith("--direct_num_workers") for flag in beam_flags):
        flags.append(f"--direct_num_workers={workers}")
    if not any(flag.startswith("--direct_running_mode") for flag in beam_flags):
        flags.append("--direct_running_mode=multi_processing")
    return flags


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_flags(beam_flags: Sequence[str]) -> None:
    """Refuse flags that no part of Beam knows, values it can't read and runners it doesn't have.

    Raises:
        UsageError: the first of them; Beam itself would drop an unknown flag silently.
    """
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, conflict_handler="resolve", exit_on_error=False
    )
    for options in _option_classes(PipelineOptions):
        options._add_argparse_args(parser)
    try:
        found, unknown = parser.parse_known_args(list(beam_flags))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}; it is one of Beam's flags") from error
    if unknown:
        raise UsageError(
            f"unknown flag {unknown[0]}; see --help, and Beam's documentation for its runners' flags"
        )
    if found.runner:
        try:
            create_runner(found.runner)
        except (ValueError, ImportError, AttributeError) as error:
            raise UsageError(f"--runner={found.runner}: {error}") from error


def _option_classes(base: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [found for child in base.__subclasses__() for found in (child, *_option_classes(child))]

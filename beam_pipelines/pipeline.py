"""The Beam pipeline: work items -> files, on any runner."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from beam_pipelines import work_folder
from records.errors import UsageError, WorkerError
from records.machine import usable_cores

# Named, because `DirectRunner` first tries to fetch another runner. It starts processes, not threads:
# the PNG decoder holds the interpreter's lock.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
# What else people call it.
_LOCAL_NAMES = ("directrunner", "fnapirunner")
# Beam starts their job server on this machine, and their workers as threads of this process unless told to
# start processes.
_JOB_SERVER_NAMES = ("prismrunner", "flinkrunner")


def run(
    work: Callable[[Any], str],
    items: Sequence[Any],
    beam_flags: Sequence[str],
    worker_command: str | None = None,
) -> PipelineResult:
    """Do the work of each item and wait until all is done.

    Beam spreads the items over the workers, each its share. Local workers take them from a folder, whoever is
    free the next: none waits for a slower one, and the job stays small and starts sooner.

    Args:
        work: a function of a module, or a partial of one, so that workers find it by name; it leaves its
            result in a file and returns where.
        items: one each; they travel, so they hold references and no pixels.
        beam_flags: Beam's flags; without `--runner`, local processes, one for each usable core.
        worker_command: starts a worker of the local runner; without it Beam starts its own.

    Returns:
        What the runner says of the job, which is done.

    Raises:
        WorkerError: the runner can't be started, or it or one of its workers died.
    """
    name = _named_runner(beam_flags)
    _quiet_beam(name)
    options = PipelineOptions([*default_flags(len(items), beam_flags), *beam_flags])
    runner = create_runner(LOCAL_RUNNER if _is_local(name) else name)
    if worker_command:
        options.view_as(
            DirectOptions
        ).direct_running_mode = "in_memory"  # which keeps the runner's environment
        runner = FnApiRunner(SubprocessSDKEnvironment.from_command_string(worker_command))
    with (
        _spread(work, items, is_local=_is_local(name)) as (do, elements),
        _worker_deaths_noticed(),
        _runner_errors(name),
        _job_server_stopped(runner),
        beam.Pipeline(runner=runner, options=options) as pipeline,
    ):
        (
            pipeline
            | "List work items" >> beam.Create(elements)  # bytes: an item, or a turn at the folder of items
            | "Do work items" >> beam.FlatMap(do)  # str: where the result is
        )
    return pipeline.result


@contextlib.contextmanager
def _spread(
    work: Callable[[Any], str], items: Sequence[Any], *, is_local: bool
) -> Iterator[tuple[Callable[[bytes], Iterable[str]], list[bytes]]]:
    """Keep the items where workers find them; give the function for Beam's elements, and the elements."""
    if not is_local:
        yield functools.partial(_unpack_and_do, work), [_pack(item) for item in items]
        return
    with tempfile.TemporaryDirectory(prefix="cxr-items-") as folder:
        work_folder.fill(Path(folder), items)
        # As many turns as items, so that each worker gets one or more, however Beam deals them out.
        turns = [str(number).encode() for number in range(len(items))]
        yield functools.partial(work_folder.take_turn, work, folder), turns


def _pack(item: Any) -> bytes:
    """Make a work item a fraction of its size: items travel with the job, whose size has a limit."""
    return zlib.compress(pickle.dumps(item), level=1)


def _unpack_and_do(work: Callable[[Any], str], packed: bytes) -> list[str]:
    return [work(pickle.loads(zlib.decompress(packed)))]


def _quiet_beam(name: str) -> None:
    """Keep off the screen what Beam says at length of a failure that it raises as well."""
    raises_all = _is_local(name) or name.lower() in _JOB_SERVER_NAMES
    for logger in (logging.getLogger(), logging.getLogger("apache_beam")):
        logger.setLevel(logging.CRITICAL if raises_all else logging.ERROR)


@contextlib.contextmanager
def _runner_errors(name: str) -> Iterator[None]:
    """Say in one line what keeps a named runner from its work; an error in our own code keeps its traceback.

    Raises:
        WorkerError: from within the block.
    """
    try:
        yield
    except (RuntimeError, ValueError, NotImplementedError, ImportError, OSError, grpc.RpcError) as error:
        text = str(error)
        if _is_local(name) or "Traceback" in text:
            raise
        if isinstance(error, grpc.RpcError):
            text = f"the job server broke off ({getattr(error, 'details', str)()}); are its workers there?"
        raise WorkerError(f"--runner={name}: {text}; when it is mended, add --resume") from error


@contextlib.contextmanager
def _job_server_stopped(runner: PipelineRunner) -> Iterator[None]:
    """Stop the job server that a runner starts; Beam does so at exit only, which a failed command skips.

    Beam starts worker processes as `python`; meanwhile that is this interpreter, activated or not.
    """
    if not hasattr(runner, "default_job_server"):
        yield
        return
    make, made = runner.default_job_server, []
    usual_path, usual_handler = os.environ.get("PATH", os.defpath), signal.getsignal(signal.SIGINT)

    def keep(options: PipelineOptions) -> Any:
        made.append(make(options))
        return made[-1]

    runner.default_job_server = keep
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{usual_path}"
    try:
        yield
    finally:
        os.environ["PATH"] = usual_path
        for server in made:
            server.stop()
        if made:  # the server has put its own there, and is only let go with it
            signal.signal(signal.SIGINT, usual_handler)


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
        if died:
            return
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


def default_flags(items: int, beam_flags: Sequence[str]) -> list[str]:
    """Return what Beam is told unless `beam_flags` say otherwise: workers are processes, and how many."""
    name = _named_runner(beam_flags)
    if name.lower() in _JOB_SERVER_NAMES:
        return ["--experiments=use_loopback_process_worker"]
    if not _is_local(name):
        return []
    flags = []
    if not any(flag.startswith("--direct_num_workers") for flag in beam_flags):
        flags.append(f"--direct_num_workers={min(usable_cores(), max(items, 1))}")
    if not any(flag.startswith("--direct_running_mode") for flag in beam_flags):
        flags.append("--direct_running_mode=multi_processing")
    return flags


def _named_runner(beam_flags: Sequence[str]) -> str:
    return PipelineOptions(list(beam_flags)).view_as(StandardOptions).runner or LOCAL_RUNNER


def _is_local(name: str) -> bool:
    return name.rpartition(".")[2].lower() in _LOCAL_NAMES


def is_elsewhere(beam_flags: Sequence[str]) -> bool:
    """Tell whether the workers run where no path of this machine leads."""
    return _named_runner(beam_flags).rpartition(".")[2].lower() == "dataflowrunner"


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
    if found.runner and not _is_local(found.runner):
        try:
            # Made and thrown away: Beam checks a runner's flags when it makes a pipeline for it.
            beam.Pipeline(runner=create_runner(found.runner), options=PipelineOptions(list(beam_flags)))
        except (ValueError, ImportError, AttributeError) as error:
            raise UsageError(f"--runner={found.runner}: {error}") from error


def _option_classes(base: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [found for child in base.__subclasses__() for found in (child, *_option_classes(child))]

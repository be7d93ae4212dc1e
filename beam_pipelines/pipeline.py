"""The Beam pipeline: work items -> published shards, on any runner."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines.plan import PixelSettings, ShardItem
from beam_pipelines.shards import write_shard

# Named, because `DirectRunner` first tries to fetch another runner. It starts processes, not threads:
# the PNG decoder holds the interpreter's lock.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def run(
    items: Sequence[ShardItem],
    *,
    output: str,
    settings: PixelSettings,
    progress_folder: str,
    beam_flags: Sequence[str],
) -> None:
    """Write the shards and wait until they are written.

    Args:
        items: the work, one item a shard.
        output: the data set's folder or prefix.
        settings: how pictures are stored.
        progress_folder: where workers on this machine leave their counts.
        beam_flags: Beam's flags; without `--runner`, local processes, one for each usable core.
    """
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    options = PipelineOptions([*local_flags(len(items), beam_flags), *beam_flags])
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | "List shards" >> beam.Create(list(items))  # ShardItem
            | "Write shards"
            >> beam.Map(write_shard, output, settings, progress_folder)  # str: the shard's path
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


def unknown_flags(beam_flags: Sequence[str]) -> list[str]:
    """Return the flags that no part of Beam knows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in _option_classes(PipelineOptions):
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(beam_flags))
    return unknown


def _option_classes(base: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    return [found for child in base.__subclasses__() for found in (child, *_option_classes(child))]

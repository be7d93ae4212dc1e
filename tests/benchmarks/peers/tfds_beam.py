"""A Beam-based builder of TensorFlow Datasets, as its guide to Beam datasets has it.

    python tfds_beam.py WORK.json OUTPUT PROCESSES

One element an image, `beam.Create` and `beam.Map`, Pillow for decoding, run by Beam's local runner in as many
processes as cores. Pixels are stored raw, since encoding them as PNG again would cost it more.
"""

from __future__ import annotations

import sys

import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from decoders import SIDE_PX, pillow, read_command_line

WORK = read_command_line()


def process_example(row: tuple[str, list[int]]) -> tuple[str, dict[str, np.ndarray]]:
    """Return key and example of one image."""
    path, labels = row
    return path, {"image": pillow(path), "labels": np.array(labels, np.uint8)}


class ChestXray(tfds.core.BeamBasedBuilder):
    """The files of WORK.json as a data set."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Tensor(shape=(SIDE_PX, SIDE_PX, 1), dtype=np.uint8, encoding="bytes")
        labels = tfds.features.Tensor(shape=(14,), dtype=np.uint8)
        features = tfds.features.FeaturesDict({"image": image, "labels": labels})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, beam.PTransform]:  # noqa: ARG002
        return {"train": self._generate_examples(WORK.rows)}

    def _generate_examples(self, rows: list[tuple[str, list[int]]]) -> beam.PTransform:
        return beam.Create(rows) | beam.Map(process_example)


def main() -> int:
    """Convert; print how many examples the builder counts."""
    options = PipelineOptions(
        [
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            "--direct_running_mode=multi_processing",
            f"--direct_num_workers={WORK.processes}",
        ]
    )
    builder = ChestXray(data_dir=str(WORK.output))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=options))
    print(f"images {builder.info.splits['train'].num_examples}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The job that the conversion hands to Dataflow, made but not submitted: steps, image, package, size."""

from __future__ import annotations

import importlib.util
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from apache_beam import version
from apache_beam.portability.api import beam_runner_api_pb2 as api
from conversions import error_of

from beam_pipelines import convert, pipeline, plan
from beam_pipelines.image_files import Found
from records.table import read_table

ROOT = Path(__file__).parents[2]
# Those of the README, and two that keep Beam from asking Google for credentials and from submitting.
FLAGS = [
    "--runner=DataflowRunner", "--project=some-project", "--region=europe-west4",
    "--temp_location=gs://some-bucket/tmp", "--staging_location=gs://some-bucket/staging",
    "--setup_file=./setup.py", "--max_num_workers=8", "--no_auth", "--dry_run=true",
]  # fmt: skip
LOCAL = {"direct_running_mode": None, "direct_num_workers": None}
# Dataflow refuses larger job graphs.
MOST_BYTES = 10 << 20

if (
    importlib.util.find_spec("google.cloud") is None
    or importlib.util.find_spec("google.cloud.dataflow") is None
):
    pytest.skip("Beam's Google Cloud parts are not there: pip install -e '.[gcp]'", allow_module_level=True)


class Job:
    """The job of one conversion: its steps by name, its workers' environment, and what is staged for them."""

    def __init__(self, pipeline_proto: api.Pipeline) -> None:
        self.steps = {step.unique_name: step for step in pipeline_proto.components.transforms.values()}
        (environment,) = pipeline_proto.components.environments.values()
        self.image = api.DockerPayload.FromString(environment.payload).container_image
        self.staged = {
            api.ArtifactStagingToRolePayload.FromString(file.role_payload).staged_name: Path(
                api.ArtifactFilePayload.FromString(file.type_payload).path
            )
            for file in environment.dependencies
        }


def job_of(arguments: Sequence[str], folder: Path) -> Job:
    """Run the command up to where the job would be submitted; what Beam builds for it goes into `folder`."""
    jobs = []
    run = pipeline.run
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(tempfile, "tempdir", str(folder))
        # No worker will look for the drawn images, which lie on this machine.
        patch.setattr(pipeline, "is_elsewhere", lambda _: False)
        patch.setattr(pipeline, "run", lambda *given: jobs.append(run(*given).job))
        # Nobody writes the shards, and the launcher says so.
        assert convert.main([*arguments, *FLAGS]) == 1
    return Job(jobs[0].proto_pipeline)


@pytest.fixture(scope="module")
def job(drawn, tmp_path_factory) -> Job:
    folder = tmp_path_factory.mktemp("dataflow")
    return job_of(drawn.arguments(folder / "out", **LOCAL), folder)


def test_a_local_path_is_refused_before_anything_is_written(drawn, tmp_path, capsys):
    flags = [*drawn.arguments(tmp_path / "out", **LOCAL), *FLAGS]
    line = error_of(capsys, flags, 2)
    assert "images: workers on Dataflow can't reach a local path; expected s3://bucket/prefix" in line
    flags[flags.index("--images") + 1] = "gs://some-bucket/nih"
    assert f"{tmp_path / 'out'}: workers on Dataflow" in error_of(capsys, flags, 2)
    assert not (tmp_path / "out").exists()


def test_the_work_items_are_spread_over_the_workers_before_they_are_done(job):
    assert "Do work items" in job.steps
    (listed,) = job.steps["Do work items"].inputs.values()
    spread = [name for name, step in job.steps.items() if step.spec.urn == "beam:transform:reshuffle:v1"]
    assert [name.partition("/")[0] for name in spread] == ["List work items"]
    assert listed in job.steps["List work items"].outputs.values()


def test_the_workers_have_the_launchers_versions_of_python_and_beam(job):
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert job.image.endswith(f"/beam_python{python}_sdk:{version.__version__}")


def test_the_staged_package_holds_all_that_a_worker_imports_and_asks_for_neither_beam_nor_tensorflow(job):
    with tarfile.open(job.staged["workflow.tar.gz"]) as package:
        names = {name.partition("/")[2]: name for name in package.getnames()}
        file = package.extractfile(names["cxr_engine.egg-info/requires.txt"])
        assert file
        base = file.read().decode().partition("[")[0].split()  # the extras follow in sections
    needed = {
        str(path.relative_to(ROOT))
        for folder in ("records", "beam_pipelines")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert needed - names.keys() == set()
    assert any(requirement.startswith("kornia-rs") for requirement in base)
    assert not [name for name in base if name.startswith(("apache-beam", "tensorflow", "keras"))]


def test_the_function_and_the_main_session_travel_by_name_and_not_as_code(job):
    assert len(job.steps["Do work items"].spec.payload) < 4_000
    # Beam stages one on Dataflow by itself; ours holds nothing that the workers need.
    assert job.staged["pickled_main_session"].stat().st_size < 4_000


@pytest.mark.real_data
def test_the_work_items_of_all_images_fit_into_a_job(nih):
    table = read_table(str(nih / "labels" / "Data_Entry_2017_v2020.csv.gz"))
    etags = np.random.default_rng(1).bytes(16 * len(table)).hex()
    files = {
        name: Found(
            f"gs://some-bucket/nih/images_{row % 12:03d}/images/{name}", 400_000 + row, etags[32 * row :][:32]
        )
        for row, name in enumerate(table.image_ids.tolist())
    }
    assignment = np.zeros(len(table), np.int64)
    items = plan.shard_items(table, assignment, files, records_per_shard=512, seed=1)
    assert sum(len(item.rows) for item in items) == len(table)
    assert sum(len(pipeline._pack(item)) for item in items) < MOST_BYTES / 2

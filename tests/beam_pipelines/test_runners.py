"""The conversion on other runners: equal bytes, from worker processes that know nothing of TensorFlow."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conversions import tree_of
from running import convert_watched

from beam_pipelines import pipeline

# What each runner needs besides Beam: a variable that names a file, and what the file is.
NEEDED = {
    "PrismRunner": ("PRISM_BINARY", "the Prism binary"),
    "FlinkRunner": ("FLINK_JOB_SERVER_JAR", "the jar of Beam's Flink job server"),
}


def flags_of(runner: str) -> dict[str, object]:
    """Return a runner's flags as changes to a conversion's; skip the test where the runner is not there."""
    plain: dict[str, object] = {"direct_running_mode": None, "direct_num_workers": None, "runner": runner}
    variable, what = NEEDED[runner]
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} does not name {what}")
    if runner == "PrismRunner":
        return plain | {"prism_location": path}
    if shutil.which("java") is None:
        pytest.skip("there is no java for the Flink job server")
    return plain | {"flink_job_server_jar": path, "flink_master": "[local]", "parallelism": 2}


@pytest.fixture
def worker_pool() -> Iterator[tuple[int, int]]:
    """Beam's worker pool as a process of its own: its id and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module = "apache_beam.runners.worker.worker_pool_main"
    process = subprocess.Popen(
        [sys.executable, "-m", module, f"--service_port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    try:
        _wait_until_open(port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the worker pool did not start")


@pytest.mark.slow
@pytest.mark.parametrize("runner", NEEDED)
def test_a_runner_writes_the_local_bytes_in_processes_without_tensorflow_and_leaves_none_behind(
    drawn, converted, tmp_path, runner
):
    output = tmp_path / "out"
    done = convert_watched(drawn.arguments(output, **flags_of(runner)), output)
    assert (done.code, done.errors) == (0, [])
    assert done.writers
    assert done.launcher not in done.writers
    assert not done.with_tensorflow
    assert not done.left
    assert tree_of(output) == tree_of(converted)


@pytest.mark.slow
def test_a_worker_pool_that_was_started_beforehand_does_the_work(drawn, converted, tmp_path, worker_pool):
    pool, port = worker_pool
    output = tmp_path / "out"
    external = {"environment_type": "EXTERNAL", "environment_config": f"127.0.0.1:{port}"}
    done = convert_watched(drawn.arguments(output, **flags_of("PrismRunner"), **external), output)
    assert (done.code, done.errors) == (0, [])
    assert done.writers
    assert not done.writers & {done.launcher, pool}
    assert tree_of(output) == tree_of(converted)


@pytest.mark.slow
@pytest.mark.parametrize("runner", NEEDED)
def test_an_error_in_a_worker_reaches_the_user_as_one_line(drawn, tmp_path, runner):
    flags = flags_of(runner)
    output, archive = tmp_path / "out", tmp_path / "images_001.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(drawn.folder / "images", "images")
    archive.write_bytes(archive.read_bytes()[:-5000])
    done = convert_watched(drawn.arguments(output, **flags, images=archive), output)
    assert done.code == 1
    assert len(done.errors) == 1
    assert done.errors[0].startswith(f"error: {archive}: ")
    assert done.errors[0].endswith("download it again")
    assert not done.left


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        ({"runner": "PrismRunner", "prism_location": "/no/prism"}, 1, 'binary URL "/no/prism"'),
        ({"runner": "FlinkRunner", "flink_job_server_jar": "/no.jar"}, 1, 'jar URL "/no.jar"'),
        (
            {
                "runner": "FlinkRunner",
                "flink_job_server_jar": __file__,
                "job_server_java_launcher": "/no/java",
            },
            1,
            "No such file or directory: '/no/java'",
        ),
        ({"runner": "PortableRunner"}, 1, "You must specify a --job_endpoint"),
        (
            {"runner": "PrismRunner", "environment_type": "EXTERNAL"},
            2,
            "external_service_address is required",
        ),
        ({"runner": "DataflowRunner"}, 2, "Missing required option: project"),
    ],
    ids=["prism binary", "flink jar", "java", "job endpoint", "worker pool", "dataflow project"],
)
def test_a_runner_that_can_not_start_says_so_in_one_line(drawn, tmp_path, flags, code, expected):
    output = tmp_path / "out"
    local = {"direct_running_mode": None, "direct_num_workers": None}
    done = convert_watched(drawn.arguments(output, **local, **flags), output)
    assert done.code == code
    assert len(done.errors) == 1
    assert done.errors[0].startswith(f"error: --runner={flags['runner']}: ")
    assert expected in done.errors[0]
    assert not done.left


@pytest.mark.parametrize("name", ["DirectRunner", "FnApiRunner", pipeline.LOCAL_RUNNER])
def test_the_local_runner_has_its_processes_also_when_it_is_named(name):
    assert pipeline.default_flags(100, [f"--runner={name}"]) == pipeline.default_flags(100, [])
    assert pipeline.default_flags(1, []) == [
        "--direct_num_workers=1",
        "--direct_running_mode=multi_processing",
    ]


@pytest.fixture(scope="module")
def real_arguments(nih: Path) -> list[str]:
    """Flags of a conversion of the real images by the official lists, but for output and runner."""
    labels = nih / "labels"
    return [
        "--images", str(nih / "images"), "--labels", str(labels / "Data_Entry_2017_v2020.csv.gz"),
        "--split", "official", "--train_val_list", str(labels / "train_val_list.txt"),
        "--test_list", str(labels / "test_list.txt"), "--allow_missing_images", "--records_per_shard", "32",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def real_converted(real_arguments, tmp_path_factory) -> Path:
    """The real images as shards, written by two local processes."""
    output = tmp_path_factory.mktemp("real") / "out"
    done = convert_watched([*real_arguments, "--output", str(output), "--direct_num_workers=2"], output)
    assert (done.code, len(done.writers)) == (0, 2)
    assert done.launcher not in done.writers
    assert not done.with_tensorflow
    return output


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("runner", ["1 local", "3 local", *NEEDED])
def test_the_real_images_give_the_same_bytes_on_every_runner(
    real_arguments, real_converted, tmp_path, runner
):
    if runner in NEEDED:
        flags = [f"--{name}={value}" for name, value in flags_of(runner).items() if value is not None]
    else:
        flags = [f"--direct_num_workers={runner.split()[0]}"]
    output = tmp_path / "out"
    done = convert_watched([*real_arguments, "--output", str(output), *flags], output)
    assert (done.code, done.errors) == (0, [])
    assert done.writers
    assert done.launcher not in done.writers
    assert not done.with_tensorflow
    assert tree_of(output) == tree_of(real_converted)

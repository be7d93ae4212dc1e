"""TensorFlow reading s3:// by itself: what its client is told, what is refused, and the reading proper.

tensorflow-io needs an older TensorFlow than the tests run with: TFIO_PYTHON names the Python of an
environment that holds both and this project (`make tfio-environment`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from engine.input import tfio_reader
from engine.input.reader import ShardReader
from records import storage
from records.errors import ConfigError, StorageError

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("tfio_program.py")
PROFILE = """
[profile lab]
region = eu-central-1
endpoint_url = http://store.lab:9000
ca_bundle = /lab/ca.pem
aws_access_key_id = lab-key
aws_secret_access_key = lab-secret
aws_session_token = lab-token
"""


@pytest.fixture(autouse=True)
def _no_settings_of_the_client(monkeypatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("S3_") and not variable.startswith("S3_TEST_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def tfio_python() -> str:
    """The Python of an environment with tensorflow-io."""
    python = os.environ.get("TFIO_PYTHON")
    if not python:
        pytest.skip("TFIO_PYTHON names no Python with tensorflow-io (make tfio-environment)")
    return str(ROOT / python)


@pytest.fixture
def remote(s3, write_data_set):
    """A data set in S3."""
    return write_data_set(f"{s3}/data")


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=300
    )


def test_another_tensorflow_is_named_before_anything_is_loaded(remote, monkeypatch) -> None:
    monkeypatch.setattr(tf, "__version__", "2.18.0")
    with pytest.raises(
        ConfigError, match=r"`tfio`, but TensorFlow 2\.18\.0 .* 2\.16 and 2\.17 only: install"
    ):
        tfio_reader.serialized_records(remote, "train")
    assert "tensorflow_io" not in sys.modules


def test_a_missing_tensorflow_io_is_named_with_what_to_install(remote, monkeypatch) -> None:
    monkeypatch.setattr(tf, "__version__", "2.17.1")
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    tfio_reader._load.cache_clear()
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(ConfigError, match=r"tensorflow-io is not installed; .* 'cxr-engine\[tfio\]'"):
        tfio_reader.serialized_records(remote, "train")


def test_a_local_data_set_is_refused(data_set) -> None:
    with pytest.raises(ConfigError, match=r"expected one in s3://: use --set input\.reader=index"):
        tfio_reader.serialized_records(data_set, "train")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_the_client_is_told_the_endpoint_with_its_scheme(monkeypatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9000")
    assert tfio_reader.client_settings()["S3_ENDPOINT"] == "http://127.0.0.1:9000"


def test_without_an_endpoint_the_client_asks_the_region_that_boto3_would(monkeypatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    settings = tfio_reader.client_settings()
    assert settings["S3_ENDPOINT"] == "https://s3.eu-west-3.amazonaws.com"
    assert "AWS_REGION" not in settings


def test_the_client_is_told_what_a_profile_holds(tmp_path, monkeypatch) -> None:
    path = tmp_path / "config"
    path.write_text(PROFILE, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert tfio_reader.client_settings().items() >= {
        ("S3_ENDPOINT", "http://store.lab:9000"),
        ("S3_CA_FILE", "/lab/ca.pem"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "lab-key"),
        ("AWS_SECRET_ACCESS_KEY", "lab-secret"),
        ("AWS_SESSION_TOKEN", "lab-token"),
    }


def test_what_the_user_set_for_the_client_stays(monkeypatch) -> None:
    user = {
        "S3_ENDPOINT": "http://other:1",
        "S3_CA_FILE": "/my/ca.pem",
        "S3_CONNECT_TIMEOUT_MSEC": "1",
        "AWS_REGION": "eu-north-1",
        "AWS_ACCESS_KEY_ID": "mine",
        "AWS_SECRET_ACCESS_KEY": "too",
    }
    for variable, value in {**user, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}.items():
        monkeypatch.setenv(variable, value)
    assert not tfio_reader.client_settings().keys() & {*user, "AWS_SESSION_TOKEN"}


def test_a_profile_that_is_not_there_is_one_clear_line(monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"AWS settings can't be used: .*nobody"):
        tfio_reader.client_settings()


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_the_records_are_those_of_the_index_reader_and_the_exit_code_is_kept(
    tfio_python, s3, write_data_set, tmp_path, monkeypatch, encoding: str
) -> None:
    remote = write_data_set(f"{s3}/data", encoding=encoding)
    output = tmp_path / "read.npz"
    logged = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_MAX_VLOG_LEVEL": "1"}
    done = run(tfio_python, str(PROGRAM), remote.location, str(output), "3", **logged)
    assert done.returncode == 3, done.stderr[-2000:]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ShardReader(remote, "train") as reader:
        images, labels = reader.gather(np.arange(20))
    with np.load(output) as read:
        assert np.array_equal(read["images"], np.concatenate([images, images]))
        assert np.array_equal(read["labels"], np.concatenate([labels, labels]))
    # The file system's own log: three shards in each of two epochs, at least, and no read of 127 MiB.
    sizes = {int(size) for size in re.findall(r"ReadFilefromS3 .* for n: (\d+)", done.stderr)}
    assert sizes == {tfio_reader.BUFFER_BYTES}


def test_a_shard_that_is_gone_is_named_and_the_exit_code_is_1(tfio_python, remote, tmp_path) -> None:
    storage.delete(remote.locate(remote.splits["train"].shards[1]))
    done = run(tfio_python, str(PROGRAM), remote.location, str(tmp_path / "read.npz"), "0")
    assert done.returncode == 1
    assert re.search(r"^error: s3://\S+train-00001-of-00003\.tfrecord: missing", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_a_damaged_record_is_one_clear_line(tfio_python, remote, tmp_path) -> None:
    location = remote.locate(remote.splits["train"].shards[1])
    shard = bytearray(storage.read_bytes(location))
    shard[500] ^= 1
    storage.write_bytes(location, bytes(shard))
    done = run(tfio_python, str(PROGRAM), remote.location, str(tmp_path / "read.npz"), "0")
    assert done.returncode == 1
    assert "manifest.json: TensorFlow can't read the shards (DataLossError: corrupted record" in done.stderr


@pytest.mark.slow
def test_a_model_is_trained_and_judged_without_a_local_copy_of_the_training_shards(
    tfio_python, remote, tmp_path
) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    engine = [tfio_python, "-m", "engine.cli"]
    train = ["train", "--config", "configs/demo.yaml", "--data", remote.location]
    small = ["model.image_side_px=32", "train.epochs=1", "train.global_batch=4", "input.reader=tfio"]
    settings = [part for setting in small for part in ("--set", setting)]
    done = run(*engine, *train, "--run-dir", str(tmp_path / "run"), *settings, **cache)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run/run.json").read_text())["state"] == "finished"
    assert not list((tmp_path / "cache").rglob("*-train-*"))
    done = run(*engine, "evaluate", "--run-dir", str(tmp_path / "run"), **cache)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run/evaluation/test/metrics.json").is_file()

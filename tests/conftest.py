"""What every test shares: no real credentials, the real sample's folder, buckets on S3 and GCS servers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from records import gcs_objects, s3_objects

MINIO_DEFAULT_KEY = "minioadmin"


def pytest_configure(config: pytest.Config) -> None:
    """Remove real cloud credentials, also those in files, before any test; let property tests take time."""
    for variable in list(os.environ):
        if variable.startswith(("AWS_", "GOOGLE_")):
            del os.environ[variable]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_CONFIG_FILE"] = os.devnull
    # A busy machine is no fault of the code under test; CI tries the same examples each time.
    hypothesis.settings.register_profile(
        "without_deadline",
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("without_deadline")


@pytest.fixture(scope="session")
def nih() -> Path:
    """The folder of real NIH data that NIH_SAMPLE_DIR names, with `images/` and `labels/`."""
    folder = os.environ.get("NIH_SAMPLE_DIR")
    if not folder:
        pytest.skip("NIH_SAMPLE_DIR names no folder of real NIH data")
    return Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """Environment of an S3 server: the one S3_TEST_ENDPOINT names, or moto in this process."""
    endpoint = os.environ.get("S3_TEST_ENDPOINT")
    if endpoint:
        yield _s3_environment(
            endpoint,
            os.environ.get("S3_TEST_ACCESS_KEY", MINIO_DEFAULT_KEY),
            os.environ.get("S3_TEST_SECRET_KEY", MINIO_DEFAULT_KEY),
        )
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _s3_environment(f"http://{host}:{port}", "testing", "testing")
    finally:
        server.stop()


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh bucket as `s3://bucket`; child processes find the same server by the environment."""
    import boto3

    for variable, value in s3_server.items():
        monkeypatch.setenv(variable, value)
    s3_objects._client.cache_clear()
    bucket = f"cxr-test-{uuid.uuid4().hex}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    yield f"s3://{bucket}"
    _remove_bucket(client, bucket)
    client.close()
    s3_objects._client.cache_clear()


@pytest.fixture(scope="session")
def gs_server() -> Iterator[str]:
    """Address of a GCS server: the one GCS_TEST_ENDPOINT names, or an emulator in this process."""
    pytest.importorskip(
        "google.cloud.storage", reason="Google's client is not installed: pip install google-cloud-storage"
    )
    endpoint = os.environ.get("GCS_TEST_ENDPOINT")
    if endpoint:
        yield endpoint
        return
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server",
        reason="no server: pip install gcp-storage-emulator, or name one as GCS_TEST_ENDPOINT",
    )
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    try:
        yield "http://{}:{}".format(*server._api._httpd.server_address)
    finally:
        server.stop()


@pytest.fixture
def gs(gs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh bucket as `gs://bucket`."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_server)
    gcs_objects._client.cache_clear()
    bucket = f"cxr-test-{uuid.uuid4().hex}"
    gcs_objects.client().create_bucket(bucket, project="test")
    yield f"gs://{bucket}"
    gcs_objects.client().close()
    gcs_objects._client.cache_clear()


def _s3_environment(endpoint: str, access_key: str, secret_key: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _remove_bucket(client, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=entry["Key"])
    client.delete_bucket(Bucket=bucket)

"""A MinIO server in a namespace of its own: its files, and the requests that it counts."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from storage_network import SERVER, WITH_US, Link

from records.errors import CxrError

PORT = 9000
BUCKET = "bench"
ENDPOINT = f"http://{SERVER}:{PORT}"
# Both names of the endpoint are AWS's or a peer's; virtual hosts need names, so addresses are by path.
ENVIRONMENT = {
    "AWS_ENDPOINT_URL_S3": ENDPOINT,
    "AWS_ENDPOINT_URL": ENDPOINT,
    "S3_ENDPOINT_URL": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "minioadmin",
    "AWS_SECRET_ACCESS_KEY": "minioadmin",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_CONFIG_FILE": os.devnull,
}
_START_S = 30.0
_COUNTS = re.compile(r'^minio_api_requests_total\{name="GetObject".*\} (\S+)$', re.MULTILINE)


class Server:
    """MinIO over an empty folder; a context manager that ends it."""

    def __init__(self, link: Link, binary: str, folder: Path, cores: Sequence[int], log: Path) -> None:
        """Start it and wait until it answers.

        Args:
            link: in whose far namespace it runs.
            binary: MinIO's program.
            folder: takes the objects.
            cores: that it runs on.
            log: takes what it prints.

        Raises:
            CxrError: it doesn't start.
        """
        folder.mkdir(parents=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [binary, "server", str(folder), "--address", f"{SERVER}:{PORT}", "--quiet"]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [*WITH_US, *link.inside(["taskset", "-c", ",".join(map(str, cores)), *command])],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "MINIO_PROMETHEUS_AUTH_TYPE": "public"},
            )
        try:
            self._wait(log)
        except BaseException:
            self.close()
            raise
        self._s3().create_bucket(Bucket=BUCKET)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()

    def upload(self, folder: Path, prefix: str) -> int:
        """Put the files below a folder under a prefix; return their bytes."""
        client = self._s3()
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]

        def put(path: Path) -> None:
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, files))
        return sum(path.stat().st_size for path in files)

    def allow_everybody_to_read(self) -> None:
        """Let objects be read without a signature, for clients that have none."""
        self._s3().put_bucket_policy(
            Bucket=BUCKET,
            Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", '
            f'"Action": "s3:GetObject", "Resource": "arn:aws:s3:::{BUCKET}/*"}}]}}',
        )

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection((SERVER, PORT), timeout=1).close()
                self._s3().list_buckets()
                return
            except Exception as error:  # whatever is raised before the server is whole
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace").strip().splitlines() or [str(error)]
                    raise CxrError(f"MinIO doesn't start, it last said: {said[-1]}; see {log}") from error
            time.sleep(0.1)

    def _s3(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=ENDPOINT,
            aws_access_key_id="minioadmin",
            aws_secret_access_key="minioadmin",
            region_name="us-east-1",
        )


def gets() -> int:
    """Return how many requests for an object, or for a range of one, the server has answered."""
    with urllib.request.urlopen(f"{ENDPOINT}/minio/metrics/v3/api/requests", timeout=30) as answer:
        return sum(int(float(count)) for count in _COUNTS.findall(answer.read().decode()))

"""Plants credentials, lets commands succeed and fail, and looks for them in all that was written and said."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_data_set import write_data_set, write_source

from beam_pipelines import archive_list, convert, download
from engine import cli
from records import s3_objects, storage
from records.errors import StorageError, without_credentials

PLANTED = ("planted-Secret/Key+42", "planted-token-4711", "planted-password")
TINY_MODEL = (
    "model={name: guide_cnn, weights: none, image_side_px: 32, normalisation: imagenet, filters: [2], "
    "kernel_px: 3, dropout: 0.2}"
)
Hear = Callable[[], str]


class _Refusing(BaseHTTPRequestHandler):
    """Answers everything with 403 and repeats what it was sent, as some proxies do."""

    def _refuse(self) -> None:
        body = f"<Error><Code>AccessDenied</Code><Message>{self.headers}</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _refuse  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def planted(
    s3_server: dict[str, str], s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """A bucket that is reached by credentials in the environment and in the address of the store."""
    if "S3_TEST_ENDPOINT" in os.environ:
        pytest.skip("a real store takes no credentials of ours")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED[0])
    monkeypatch.setenv("AWS_SESSION_TOKEN", PLANTED[1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    set_endpoint(monkeypatch, s3_server["AWS_ENDPOINT_URL_S3"])
    yield s3
    s3_objects._client.cache_clear()


@pytest.fixture
def refusing(planted: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same bucket at a store that refuses everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    before = os.environ["AWS_ENDPOINT_URL_S3"]
    set_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield planted
    set_endpoint(monkeypatch, before)
    server.shutdown()
    server.server_close()
    thread.join()


def set_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    if "@" not in address:
        address = address.replace("http://", f"http://someone:{PLANTED[2]}@")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    s3_objects._client.cache_clear()
    s3_objects._check_bucket.cache_clear()


@pytest.fixture
def heard(capfd: pytest.CaptureFixture[str]) -> Hear:
    """A function that returns what was said since it was called last."""

    def hear() -> str:
        said = capfd.readouterr()
        return said.out + said.err

    return hear


def assert_nowhere(said: str, folder: Path, bucket: str | None = None) -> None:
    """Look for what was planted in words, in files below a folder, and in a bucket's objects."""
    places = {"what was said": said.encode()}
    places |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if bucket:
        places |= {file.location: storage.read_bytes(file.location) for file in storage.list_files(bucket)}
    found = [place for place, data in places.items() for secret in PLANTED if secret.encode() in data]
    assert not found


@pytest.fixture
def conversion(tmp_path: Path) -> Callable[[str], list[str]]:
    """A function from an output to the flags of a conversion of a few images."""
    flags = write_source(tmp_path / "source")
    return lambda output: [*flags, "--output", output]


def test_a_conversion_into_a_bucket_leaves_no_credentials(
    planted: str, conversion: Callable[[str], list[str]], tmp_path: Path, heard: Hear
) -> None:
    assert convert.main(conversion(f"{planted}/out")) == 0
    assert storage.exists(f"{planted}/out/manifest.json")
    assert_nowhere(heard(), tmp_path, planted)


def test_a_conversion_that_is_refused_tells_no_credentials(
    refusing: str, conversion: Callable[[str], list[str]], tmp_path: Path, heard: Hear
) -> None:
    assert convert.main(conversion(f"{refusing}/out")) == 1
    said = heard()
    assert "error: " in said
    assert_nowhere(said, tmp_path)


def test_a_training_that_is_refused_tells_no_credentials(refusing: str, tmp_path: Path, heard: Hear) -> None:
    arguments = ["train", "--config", "configs/demo.yaml", "--data", f"{refusing}/m.json"]
    assert cli.main([*arguments, "--run-dir", str(tmp_path / "run")]) == 1
    said = heard()
    assert "error: " in said
    assert_nowhere(said, tmp_path)


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_training_from_a_bucket_leaves_no_credentials(planted: str, tmp_path: Path, state: str) -> None:
    data_set = write_data_set(f"{planted}/data")
    if state == "failed":
        shard = data_set.locate(data_set.splits["train"].shards[0])
        storage.write_bytes(shard, bytes(storage.size(shard)))
    command = ["train", "--config", "configs/demo.yaml", "--data", data_set.location]
    settings = [TINY_MODEL, "train.epochs=1", "train.global_batch=4", f"checkpoint.location={planted}/copy"]
    flags = [word for setting in settings for word in ("--set", setting)]
    arguments = [*command, "--run-dir", str(tmp_path / "run"), *flags]
    ended = subprocess.run(
        [sys.executable, "-m", "engine.cli", *arguments], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == (0 if state == "finished" else 1), ended.stderr
    assert f'"state": "{state}"' in (tmp_path / "run" / "run.json").read_text()
    assert_nowhere(ended.stdout + ended.stderr, tmp_path, planted)


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://someone:{PLANTED[2]}@127.0.0.1:port",
        f"someone:{PLANTED[2]}@127.0.0.1:9",
        f"http://someone:{PLANTED[2]}/x@127.0.0.1:9",
        f"http://someone:{PLANTED[2]}@127.0.0.1:9",
    ],
)
def test_a_wrong_address_of_the_store_is_told_without_its_password(
    planted: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_objects, "_ATTEMPTS", 1)
    set_endpoint(monkeypatch, endpoint)
    with pytest.raises(StorageError) as raised:
        storage.read_bytes(f"{planted}/a")
    assert_nowhere(str(raised.value), tmp_path)


def test_a_download_that_fails_tells_no_password_of_its_addresses(tmp_path: Path, heard: Hear) -> None:
    urls = tmp_path / "given" / "urls.csv"
    urls.parent.mkdir()
    address = f"http://someone:{PLANTED[2]}@127.0.0.1:9/x?X-Amz-Signature={PLANTED[1]}&id=1"
    urls.write_text(f"{','.join(archive_list.COLUMNS)}\n1,x.tar.gz,{address},,\n")
    arguments = ["--output", str(tmp_path / "out"), "--urls", str(urls), "--attempts", "1"]
    assert download.main(arguments) == 1
    said = heard()
    assert "***@127.0.0.1:9/x?X-Amz-Signature=***&id=1" in said
    assert_nowhere(said, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://user:word@host/a@b", "http://***@b"),
        ("at 'https://user:word@host:9/x', not found", "at 'https://***@host:9/x', not found"),
        ("https://user:a/b@host/x", "https://***@host/x"),
        ("s3://bucket/a@b.png: missing", "s3://bucket/a@b.png: missing"),
        ("https://host/x?sig=abc&id=1", "https://host/x?sig=***&id=1"),
        ("https://host/x?a=1&X-Amz-Credential=k%2F1", "https://host/x?a=1&X-Amz-Credential=***"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_credentials_of_an_address_are_left_out(text: str, told: str) -> None:
    assert without_credentials(text) == told

"""What the tests of training share: a network whose step takes milliseconds, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer

import pytest
from metadata_service import FakeService, handler_of

from engine import config as configs
from records.manifest import Manifest

TINY_MODEL = (
    "model={name: guide_cnn, weights: none, image_side_px: 32, normalisation: imagenet, filters: [2], "
    "kernel_px: 3, dropout: 0.2}"
)


def _shell() -> dict[str, str]:
    """The environment that a user's shell gives, without what TensorFlow has set in this process."""
    return {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., configs.Config]:
    """A function from overrides to a config of the guide's network with two filters."""

    def config(*overrides: str) -> configs.Config:
        return configs.load("configs/demo.yaml", [TINY_MODEL, "train.global_batch=4", *overrides])

    return config


@pytest.fixture(scope="session")
def lasting_data_set(tmp_path_factory: pytest.TempPathFactory, write_data_set) -> Manifest:
    """A data set that no test spoils."""
    return write_data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_command(lasting_data_set: Manifest) -> Callable[..., list[str]]:
    """A function from a run directory, overrides and `flags` to a command that trains the tiny network."""

    def command(run: object, *overrides: str, flags: tuple[str, ...] = ()) -> list[str]:
        settings = (TINY_MODEL, "train.global_batch=4", "train.epochs=2", *overrides)
        given = [word for override in settings for word in ("--set", override)]
        begin = ["train", "--config", "configs/demo.yaml", "--data", lasting_data_set.location]
        return [*begin, "--run-dir", str(run), *given, *flags]

    return command


@pytest.fixture(scope="session")
def engine() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs an `engine` command to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engine.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=_shell())

    return run


@pytest.fixture(scope="session")
def begun() -> Callable[[list[str], str], subprocess.Popen[str]]:
    """A function that starts an `engine` command and returns when its error output holds a text."""

    def begin(command: list[str], until: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=_shell(),
        )
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if until in line:
                # Nobody reads on, and a pipe that is full would hold the process up.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return process
        raise AssertionError("".join(lines))

    return begin


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A fresh one, whose address the environment names."""
    fake = FakeService()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(fake))
    server.handle_error = lambda *_: None  # a client that has gone away
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()

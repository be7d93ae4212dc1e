"""A judged ensemble, and servers of it: real ones, on free ports, in threads of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from served_run import make_ensemble, write_boxes

from engine.serving import card, listening
from engine.serving.bounds import Bounds
from engine.serving.samples import Samples
from engine.serving.served_model import ServedModel
from engine.serving.service import Service
from records.manifest import Manifest

START_S = 30.0
StartServer = Callable[..., httpx.Client]


@pytest.fixture(scope="session")
def served_data(tmp_path_factory: pytest.TempPathFactory, write_data_set) -> Manifest:
    """The data set that is served."""
    return write_data_set(tmp_path_factory.mktemp("served") / "planted-data")


@pytest.fixture(scope="session")
def served_run(served_data: Manifest) -> Path:
    """The directory of a judged ensemble; read-only."""
    return make_ensemble(Path(served_data.folder).parent / "planted-run", served_data)


@pytest.fixture(scope="session")
def boxes(served_data: Manifest) -> Path:
    """A box list with two boxes of the first image of the test split."""
    return write_boxes(Path(served_data.folder).parent / "planted-boxes.csv", served_data)


@pytest.fixture(scope="session")
def served_model(served_run: Path) -> ServedModel:
    """The ensemble, warmed up."""
    model = ServedModel(served_run, Bounds().batch, None)
    model.warm_up()
    return model


@pytest.fixture(scope="session")
def make_service(served_run: Path, served_data: Manifest, boxes: Path) -> Iterator[Callable[..., Service]]:
    """A function that makes a service of a model, with samples, within bounds."""
    with contextlib.ExitStack() as stack:

        def make(model: ServedModel, bounds: Bounds | None = None, *, with_samples: bool = True) -> Service:
            samples = Samples(served_data, str(boxes)) if with_samples else None
            if samples:
                stack.callback(samples.close)
            told = card.make(
                str(served_run), model, phantom=False, has_samples=with_samples, upload_bytes=1 << 20
            )
            return Service(model, told, samples, bounds)

        yield make


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """A function that serves a service, and returns a client of it."""
    with _serving() as start:
        yield start


@pytest.fixture(scope="module")
def client(make_service: Callable[..., Service], served_model: ServedModel) -> Iterator[httpx.Client]:
    """A client of a server within the usual bounds, which a module's tests share."""
    with _serving() as start:
        yield start(make_service(served_model))


@contextlib.contextmanager
def _serving() -> Iterator[StartServer]:
    with contextlib.ExitStack() as stack:

        def start(service: Service) -> httpx.Client:
            bound = socket.create_server(("127.0.0.1", 0))
            server = listening.server(service, "127.0.0.1")
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            until_s = time.monotonic() + START_S
            while not server.started and time.monotonic() < until_s:
                time.sleep(0.01)
            address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            return stack.enter_context(httpx.Client(base_url=address, timeout=START_S, trust_env=False))

        yield start

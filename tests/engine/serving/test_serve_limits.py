"""What a running server refuses, cuts off or puts off: too much, too slow, too many at once."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from served_run import png

from engine.serving.bounds import Bounds
from engine.serving.served_model import ServedModel

WAIT_S = 20.0
# What `HeldModel` takes its time to decode.
SLOW = b"slow"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


class HeldModel:
    """The real model behind a gate, so that a test decides how long it takes."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self.gate = threading.Event()
        self.batches: list[int] = []

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def decode(self, data: bytes) -> np.ndarray:
        if data.startswith(SLOW) and not self.gate.wait(WAIT_S):
            raise TimeoutError
        return self._model.decode(data)

    def predict(self, batch: list[np.ndarray]) -> list:
        self.batches.append(len(batch))
        if not self.gate.wait(WAIT_S):
            raise TimeoutError
        return self._model.predict(batch)


@pytest.fixture
def held(served_model: ServedModel) -> Iterator[HeldModel]:
    model = HeldModel(served_model)
    yield model
    model.gate.set()


def send(client: httpx.Client, content: bytes, **more) -> httpx.Response:
    return client.post("/api/predict", files={"file": ("a name", content)}, **more)


def figure(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def until(holds) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def talk(client: httpx.Client, *parts: bytes) -> bytes:
    """Send bytes over a connection of its own, and read until the server closes it."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=WAIT_S) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def head(*more: bytes, method: bytes = b"POST", path: bytes = b"/api/predict") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_one_more_than_fits_is_told_at_once_to_come_again(start_server, make_service, held):
    client = start_server(make_service(held, Bounds(predictions=2)))
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(send, client, png(seed)) for seed in range(2)]
        until(lambda: figure(client, "cxr_places_used") == 2)
        refused = send(client, png(2))
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "busy" in refused.json()["error"]
        held.gate.set()
        assert all(answer.result().is_success for answer in first)
    assert send(client, png(2)).is_success


def test_room_for_the_bytes_of_uploads_is_refused_before_they_are_read(start_server, make_service, held):
    content = png()
    client = start_server(make_service(held, Bounds(uploads_bytes=len(content))))
    assert send(client, content).status_code == 503  # the form around it is too much already
    held.gate.set()
    assert figure(client, "cxr_upload_bytes_held") == 0


def test_pictures_that_wait_are_predicted_together(start_server, make_service, held):
    client = start_server(make_service(held, Bounds(batch=4)))
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(send, client, png(9))
        until(lambda: held.batches == [1])
        others = [pool.submit(send, client, png(seed)) for seed in range(5)]
        until(lambda: figure(client, "cxr_queue_pictures") == 5)
        held.gate.set()
        assert all(answer.result().is_success for answer in [first, *others])
    assert held.batches == [1, 4, 1]


def test_work_of_a_client_that_is_gone_is_dropped(start_server, make_service, held):
    client = start_server(make_service(held))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, client, png(0))
        until(lambda: held.batches == [1])
        with pytest.raises(httpx.ReadTimeout):
            send(client, png(1), timeout=0.5)
        until(lambda: figure(client, "cxr_places_used") == 1)
        held.gate.set()
        assert first.result().is_success
    assert send(client, png(2)).is_success
    assert held.batches == [1, 1]


def test_a_picture_that_the_model_fails_on_leaves_the_server_working(
    start_server, make_service, served_model, capsys
):
    words = "/".join(["of", "planted", "run"])

    class Failing(HeldModel):
        def predict(self, batch):
            self.batches.append(len(batch))
            if len(self.batches) == 1:
                raise ValueError(words)
            return self._model.predict(batch)

    client = start_server(make_service(Failing(served_model)))
    answer = send(client, png())
    assert answer.status_code == 500
    assert words not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert send(client, png()).is_success
    printed = capsys.readouterr().err
    assert "ValueError" in printed
    assert words not in printed


def test_a_model_that_doesnt_answer_in_time_is_no_hang(start_server, make_service, held):
    client = start_server(make_service(held, Bounds(answer_s=0.1)))
    assert send(client, png()).status_code == 503
    held.gate.set()


def test_a_picture_that_takes_too_long_to_decode_is_put_off(start_server, make_service, held):
    client = start_server(make_service(held, Bounds(decode_s=0.1)))
    assert send(client, SLOW).status_code == 503
    assert figure(client, "cxr_upload_bytes_held") > 0  # for the thread has it still
    held.gate.set()
    until(lambda: figure(client, "cxr_upload_bytes_held") == 0)
    assert send(client, png()).is_success


def test_whoever_asks_before_sending_too_much_needs_not_send_it(start_server, make_service, served_model):
    client = start_server(make_service(served_model, Bounds(upload_bytes=100_000)))
    form = [b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: 500000", b"Connection: close"]
    assert talk(client, head(*form, b"Expect: 100-continue")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("is_length_told", [True, False])
def test_a_file_that_is_too_large_is_refused(start_server, make_service, served_model, is_length_told):
    client = start_server(make_service(served_model, Bounds(upload_bytes=100_000)))
    body = FORM + b"x" * 150_000 + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    content = body if is_length_told else (body[start : start + 9999] for start in range(0, len(body), 9999))
    answer = client.post("/api/predict", content=content, headers=headers)
    assert answer.status_code == 413
    assert "at most" in answer.json()["error"]


def test_a_head_that_comes_byte_by_byte_is_cut_off(start_server, make_service, served_model):
    client = start_server(make_service(served_model, Bounds(head_s=0.3)))
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=WAIT_S) as connection:
        ends_s = time.monotonic() + WAIT_S
        with contextlib.suppress(OSError):
            while time.monotonic() < ends_s:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() < ends_s
    assert client.get("/healthz").is_success


def test_a_body_that_doesnt_come_is_cut_off(start_server, make_service, served_model):
    client = start_server(make_service(served_model, Bounds(upload_s=0.2, head_s=0.3)))
    form = [b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: 5000"]
    assert talk(client, head(*form), FORM).startswith(b"HTTP/1.1 408 ")
    # What is never read is not waited for either.
    assert talk(client, head(*form, method=b"GET", path=b"/healthz"), b"x").startswith(b"HTTP/1.1 200 ")


def test_connections_beyond_the_bound_are_refused(start_server, make_service, served_model):
    client = start_server(make_service(served_model, Bounds(connections=2)))
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address), socket.create_connection(address):
        until(lambda: talk(client).startswith(b"HTTP/1.1 503 "))
        assert b"retry-after: 1" in talk(client)
    until(lambda: client.get("/healthz").is_success)


def test_pictures_are_kept_for_their_time_and_no_longer(start_server, make_service, served_model):
    client = start_server(make_service(served_model, Bounds(kept=2, kept_s=0.5)))
    tokens = [send(client, png(seed)).json()["id"] for seed in range(3)]
    assert [client.get(f"/api/pictures/{token}.png").status_code for token in tokens] == [404, 200, 200]
    ask = {"id": tokens[2], "finding": "Mass"}
    assert [client.get("/api/heatmap", params=ask).status_code for _ in range(2)] == [200, 200]
    assert 'cxr_model_seconds_count{kind="map"} 1.0' in client.get("/metrics").text  # the second was kept
    time.sleep(0.6)
    assert client.get(f"/api/pictures/{tokens[2]}.png").status_code == 404
    assert client.get("/api/heatmap", params=ask).status_code == 404
    assert figure(client, "cxr_pictures_kept") == 0


def test_every_bound_is_above_nothing():
    assert all(value > 0 for value in dataclasses.astuple(Bounds()))

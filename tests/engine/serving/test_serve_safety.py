"""What a running server keeps to itself, and from whom: paths, patients, other sites' pages."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served_run import SECRETS, dicom, jpeg, png

from engine.serving import guard
from engine.serving.bounds import Bounds
from engine.serving.samples import Samples
from engine.serving.service import Service

# Stands in the names of all folders and files that are served from.
PLANTED = "planted"
FORM = {"content-type": "multipart/form-data; boundary=b"}


def part(name: str = "file", content: str = "x") -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="/{PLANTED}"\r\n\r\n{content}\r\n'


FAULTS = [
    ("GET", "/nowhere", {}, 404),
    ("GET", "/static/../serve.py", {}, 404),
    ("GET", "/static/%2e%2e/serve.py", {}, 404),
    ("GET", "/static/nothing.js", {}, 404),
    ("DELETE", "/api/model", {}, 405),
    ("POST", "/static/app.js", {}, 405),
    ("GET", "/api/samples?finding=Flu", {}, 422),
    ("GET", "/api/samples?limit=many", {}, 422),
    ("GET", "/api/samples?limit=0", {}, 422),
    ("GET", "/api/samples/nobody.png", {}, 404),
    ("GET", "/api/samples/..%2f..%2fetc%2fpasswd", {}, 404),
    ("GET", "/api/samples/nobody.png/picture.png", {}, 404),
    ("GET", "/api/pictures/none.png", {}, 404),
    ("GET", "/api/heatmap", {}, 422),
    ("GET", "/api/heatmap?finding=Mass", {}, 422),
    ("GET", "/api/heatmap?finding=Flu&id=1", {}, 422),
    ("GET", "/api/heatmap?finding=Mass&id=1&sample=2", {}, 422),
    ("GET", "/api/heatmap?finding=Mass&id=1", {}, 404),
    ("GET", "/api/heatmap?finding=Mass&sample=nobody.png", {}, 404),
    ("GET", "/healthz", {"headers": {"host": "rebound.example"}}, 400),
    ("GET", "/healthz", {"headers": {"host": "[::1"}}, 400),
    ("POST", "/api/predict", {"headers": {"sec-fetch-site": "cross-site"}}, 403),
    ("POST", "/api/predict", {}, 400),
    ("POST", "/api/predict", {"json": {"file": PLANTED}}, 400),
    ("POST", "/api/predict", {"data": {"file": PLANTED}}, 400),
    ("POST", "/api/predict", {"headers": {"content-type": "multipart/form-data"}}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": "no form"}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": part()}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": part("image") + "--b--\r\n"}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": part() + part() + "--b--\r\n"}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": "--b\r\n" + "a: b\r\n" * 99}, 400),
    ("POST", "/api/predict", {"headers": FORM, "content": part() + "--b--\r\n"}, 422),
    ("POST", "/api/predict", {"files": {"file": (f"/{PLANTED}.png", b"text")}}, 422),
    ("POST", "/api/predict", {"files": {"file": (f"/{PLANTED}.png", b"")}}, 422),
]


@pytest.mark.parametrize(("method", "path", "more", "status"), FAULTS)
def test_every_fault_is_one_line_that_names_no_path(client, method, path, more, status):
    answer = client.request(method, path, **more)
    assert answer.status_code == status
    check_told(answer)
    line = answer.json()["error"]
    assert line
    assert "\n" not in line


def check_told(answer: httpx.Response) -> None:
    told = answer.text + repr(answer.headers.multi_items())
    assert PLANTED not in told
    assert str(Path(__file__).parents[3]) not in told
    for name, value in guard.HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/healthz", "/metrics", "/openapi.json", "/api/model", "/api/samples", "/api/samples/random"]
)
def test_what_is_answered_names_no_path_either(client, path):
    answer = client.get(path, headers={"Origin": "http://other.example"})
    assert answer.is_success
    # The name of the run's folder, and nothing above it, is the model's name.
    assert answer.text.count(PLANTED) == (path == "/api/model")
    assert str(Path(__file__).parents[3]) not in answer.text
    assert "access-control-allow-origin" not in answer.headers


def test_what_is_no_http_gets_the_same_headers(client):
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        told = connection.recv(65536).lower()
    assert told.startswith(b"http/1.1 400 ")
    assert all(name.lower().encode() in told for name in guard.HEADERS)


def test_a_damaged_data_set_is_told_to_whoever_runs_the_server_alone(
    start_server, served_model, make_service, write_data_set, tmp_path, capsys
):
    data_set = write_data_set(tmp_path / PLANTED, encoding="png")
    samples = Samples(data_set)
    client = start_server(Service(served_model, make_service(served_model).card, samples))
    shard = Path(data_set.folder) / data_set.splits["test"].shards[0].path
    with shard.open("r+b") as file:  # in place, for it is mapped
        damaged = shard.read_bytes().replace(b"IDAT", b"tADI")
        file.write(damaged)
    answer = client.get(f"/api/samples/{samples.find()[0].id}")
    samples.close()
    assert answer.status_code == 500
    check_told(answer)
    assert shard.name in capsys.readouterr().err


def test_a_dicom_files_patient_never_leaves_the_decoder(client, capfd):
    whole = dicom(2)
    cut = whole[: len(whole) // 2]
    answers = [client.post("/api/predict", files={"file": (SECRETS[0], data)}) for data in (whole, cut)]
    assert [answer.status_code for answer in answers] == [200, 422]
    printed = "".join(capfd.readouterr())
    for answer in [*answers, client.get("/metrics")]:
        told = answer.text + repr(answer.headers.multi_items()) + printed
        assert not any(secret in told for secret in SECRETS)


WHOLE = [png(1), jpeg(2), dicom(3)]


@st.composite
def broken_images(draw: st.DrawFn) -> bytes:
    """A real image with some bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)) | st.integers(0, 400))
        cut = draw(st.integers(0, 40))
        data[start : start + cut] = draw(st.binary(max_size=40))
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@settings(max_examples=150)
@given(data=st.data())
def test_a_broken_image_is_read_or_refused(client, data):
    answer = client.post(
        "/api/predict", files={"file": ("x", data.draw(broken_images() | st.binary(max_size=300)))}
    )
    assert answer.status_code in (200, 422)
    check_told(answer)


@settings(max_examples=100)
@given(body=st.binary(max_size=400), wrapped=st.booleans())
def test_a_broken_form_is_refused(client, body, wrapped):
    content = part().encode()[:-3] + body if wrapped else body
    answer = client.post("/api/predict", headers=FORM, content=content)
    assert answer.status_code in (400, 422)
    check_told(answer)


def test_only_a_loopback_address_has_names():
    assert guard.hosts_of("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}
    assert guard.hosts_of("::1") == guard.hosts_of("localhost") == guard.hosts_of("127.0.0.1")
    assert guard.hosts_of("0.0.0.0") is None
    assert guard.hosts_of("xray.example") is None


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_this_machines_own_names_are_answered(client, host):
    assert client.get("/healthz", headers={"host": host}).is_success


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client):
    bomb = bytearray(png())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    answer = client.post("/api/predict", files={"file": ("x", bytes(bomb))})
    assert answer.status_code == 422
    assert Bounds().decode_s > 0

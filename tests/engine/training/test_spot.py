"""The watch for spot notices, against a metadata service that insists on version 2 and can misbehave."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from metadata_service import NOTICE, FakeService

from engine.training import spot

NOTICE_LINE = "the spot instance will be terminated at 2026-01-01T00:00:00Z"
RISK = json.dumps({"noticeTime": "2025-12-31T23:50:00Z"})
ENOUGH_S = 10.0


class Heard:
    """What a watch passed on."""

    def __init__(self) -> None:
        self.notices: queue.Queue[str] = queue.Queue()
        self.risks: queue.Queue[str] = queue.Queue()

    def watch(self) -> spot.Watch:
        return spot.Watch(self.notices.put, on_risk=self.risks.put, poll_s=0.01)


def wait_until(is_so) -> None:
    deadline_s = time.monotonic() + ENOUGH_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(0.01)


def watches() -> bool:
    return any(thread.name == "spot" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_watch_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not watches())


def test_a_notice_is_passed_on_once(service: FakeService) -> None:
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 5)
        assert heard.notices.empty()
        service.answers[spot.NOTICE_PATH] = NOTICE
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE
        wait_until(lambda: not watches())
    assert heard.notices.empty()


@pytest.mark.parametrize(
    ("action", "said"),
    [("stop", "stopped"), ("hibernate", "hibernated"), ("recycle", "interrupted (recycle)")],
)
def test_the_notice_says_what_will_happen(service: FakeService, action: str, said: str) -> None:
    service.answers[spot.NOTICE_PATH] = json.dumps({"action": action, "time": "2026-01-01T00:00:00Z"})
    heard = Heard()
    with heard.watch():
        line = heard.notices.get(timeout=ENOUGH_S)
    assert line == f"the spot instance will be {said} at 2026-01-01T00:00:00Z"


def test_one_token_serves_many_looks(service: FakeService) -> None:
    with Heard().watch():
        wait_until(lambda: len(service.asked) > 10)
    assert [status for method, _, status in service.asked if method == "PUT"] == [200]


def test_a_token_is_renewed_before_it_expires(service: FakeService) -> None:
    service.token_life_s = "0"
    with Heard().watch():
        wait_until(lambda: len(service.asked) > 10)
    assert [method for method, _, _ in service.asked][:10] == ["PUT", "GET"] * 5
    assert {status for _, _, status in service.asked} == {200, 404}


def test_a_token_that_the_service_forgot_is_asked_for_anew(service: FakeService) -> None:
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 3)
        service.tokens.clear()
        wait_until(lambda: any(status == 401 for _, _, status in service.asked))
        service.answers[spot.NOTICE_PATH] = NOTICE
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE


@pytest.mark.parametrize("status", [400, 403, 404, 405, 301])
def test_where_no_token_is_given_it_gives_up_without_a_word(
    service: FakeService, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """404 and 405 are also what a service of version 1 alone answers."""
    service.token_status = status
    service.answers[spot.NOTICE_PATH] = NOTICE
    heard = Heard()
    with heard.watch():
        wait_until(lambda: not watches())
    assert service.asked == [("PUT", spot.TOKEN_PATH, status)]
    assert heard.notices.empty()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{free}", "127.0.0.1:{free}", "http://[", "a:b", "ö" * 99]
)
def test_where_nothing_listens_it_gives_up_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and refuses
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "")
        monkeypatch.setenv(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT", address.replace("{free}", str(bound.getsockname()[1]))
        )
        with Heard().watch():
            wait_until(lambda: not watches())
    assert capfd.readouterr() == ("", "")


def test_a_first_answer_that_takes_too_long_is_none(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spot, "TIMEOUT_S", 0.05)
    service.delay_s = 0.5
    with Heard().watch():
        wait_until(lambda: not watches())
        assert not watches()


def test_slow_answers_and_faults_later_on_are_borne(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 3)
        monkeypatch.setattr(spot, "TIMEOUT_S", 0.05)
        service.delay_s = 0.2
        before = len(service.asked)
        wait_until(lambda: len(service.asked) > before + 2)
        service.delay_s = 0.0
        monkeypatch.setattr(spot, "TIMEOUT_S", 2.0)
        service.faults += [500, 503, 403, 429, 302, 418]
        wait_until(lambda: not service.faults)
        service.answers[spot.NOTICE_PATH] = NOTICE
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE
    assert not [path for _, path, _ in service.asked if "moved" in path]


def test_a_service_that_is_busy_at_first_is_asked_again(service: FakeService) -> None:
    service.token_status = 503
    service.answers[spot.NOTICE_PATH] = NOTICE
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 2)
        service.token_status = 200
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "<html>",
        "[]",
        "7",
        "{}",
        '{"action": "stop"}',
        '{"action": 1, "time": 2}',
        '{"action": "a\\nb", "time": "c"}',
        "[" * 60_000,
        "\udcff",
    ],
)
def test_an_answer_that_is_no_notice_is_passed_over(service: FakeService, garbage: str) -> None:
    service.answers[spot.NOTICE_PATH] = service.answers[spot.RISK_PATH] = garbage
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 5)
        service.answers[spot.NOTICE_PATH] = NOTICE
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE
    assert heard.risks.empty()


def test_a_rebalance_recommendation_is_only_noted_and_once(service: FakeService) -> None:
    service.answers[spot.RISK_PATH] = RISK
    heard = Heard()
    with heard.watch():
        line = heard.risks.get(timeout=ENOUGH_S)
        before = len(service.asked)
        wait_until(lambda: len(service.asked) > before + 5)
    assert line == "AWS says since 2025-12-31T23:50:00Z that it may soon take this spot instance"
    assert heard.risks.empty()
    assert heard.notices.empty()


def test_a_rebalance_recommendation_is_printed_unless_it_is_taken(
    service: FakeService, capfd: pytest.CaptureFixture[str]
) -> None:
    service.answers[spot.RISK_PATH] = RISK
    with spot.Watch(lambda _: None, poll_s=0.01):
        wait_until(lambda: len(service.asked) > 5)
    assert capfd.readouterr().err == (
        "note: AWS says since 2025-12-31T23:50:00Z that it may soon take this spot instance\n"
    )


def test_nothing_is_asked_where_the_service_is_disabled(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "True")
    with Heard().watch():
        assert not watches()
    assert service.asked == []


def test_proxies_are_passed_by(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    service.answers[spot.NOTICE_PATH] = NOTICE
    heard = Heard()
    with heard.watch():
        assert heard.notices.get(timeout=ENOUGH_S) == NOTICE_LINE


def test_leaving_ends_the_watch_and_nothing_is_passed_on_afterwards(service: FakeService) -> None:
    heard = Heard()
    with heard.watch():
        wait_until(lambda: len(service.asked) > 3)
        service.delay_s = 0.1
        before = len(service.asked)
        wait_until(lambda: len(service.asked) > before)
    service.answers[spot.NOTICE_PATH] = NOTICE
    wait_until(lambda: not watches())
    assert heard.notices.empty()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_notice_that_its_taker_stumbles_over_is_not_passed_on_again(service: FakeService) -> None:
    service.answers[spot.NOTICE_PATH] = NOTICE
    taken = []

    def stumble(text: str) -> None:
        taken.append(text)
        raise OSError("no space left")

    with spot.Watch(stumble, poll_s=0.01):
        wait_until(lambda: taken and not watches())
    assert taken == [NOTICE_LINE]

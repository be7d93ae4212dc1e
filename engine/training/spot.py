"""Hears from the machine itself that it is about to be taken: spot instances of EC2.

A thread asks the instance metadata service, by its version 2, whether a notice stands there. Off EC2 it finds
nothing and gives up without a word; whatever the service answers, training goes on. What a notice leads to is
the caller's business: nothing here writes a checkpoint or ends a run.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "http://169.254.169.254"
POLL_S = 5.0  # as AWS recommends; the notice comes two minutes ahead
TIMEOUT_S = 2.0

TOKEN_PATH = "/latest/api/token"
NOTICE_PATH = "/latest/meta-data/spot/instance-action"
RISK_PATH = "/latest/meta-data/events/recommendations/rebalance"

TOKEN_HEADER = "X-aws-ec2-metadata-token"
TOKEN_LIFE_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_LIFE_S = 21_600
RENEWED_AFTER = 0.9  # of its life

ANSWER_LIMIT_BYTES = 65_536
PAST_TENSES = {"terminate": "terminated", "stop": "stopped", "hibernate": "hibernated"}


class BusyError(http.client.HTTPException):
    """The service is there and has no answer just now."""


class Metadata:
    """The instance metadata service: version 2 alone, past any proxy, following no redirect.

    Args:
        endpoint: such as `http://169.254.169.254`; the scheme may be missing.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._token = ""
        self._renew_at_s = 0.0

    @property
    def is_found(self) -> bool:
        """Whether it ever gave a token."""
        return bool(self._token)

    def get(self, path: str) -> str | None:
        """Return what stands at a path, None if nothing does.

        Raises:
            OSError, ValueError, http.client.HTTPException: no such service, or no proper answer;
            BusyError: none for now.
        """
        if not self.is_found or time.monotonic() >= self._renew_at_s:
            self._renew_token()
        status, _, text = self._ask("GET", path, {TOKEN_HEADER: self._token})
        if status == HTTPStatus.UNAUTHORIZED:
            # Forgotten before its time, as when the machine slept.
            self._renew_token()
            status, _, text = self._ask("GET", path, {TOKEN_HEADER: self._token})
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            raise http.client.HTTPException(f"{path}: status {status}")
        return text

    def _renew_token(self) -> None:
        asked_s = time.monotonic()
        status, headers, token = self._ask("PUT", TOKEN_PATH, {TOKEN_LIFE_HEADER: str(TOKEN_LIFE_S)})
        if status != HTTPStatus.OK:
            raise http.client.HTTPException(f"{TOKEN_PATH}: status {status}")
        life_s = int(headers.get(TOKEN_LIFE_HEADER, TOKEN_LIFE_S))
        self._token, self._renew_at_s = token, asked_s + RENEWED_AFTER * life_s

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, Message, str]:
        url = urlsplit(self._endpoint if "://" in self._endpoint else f"http://{self._endpoint}")
        # http.client knows nothing of proxies and redirects.
        connection = http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, url.path.rstrip("/") + path, headers=headers)
            answer = connection.getresponse()
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= 500:
                raise BusyError(f"{path}: status {answer.status}")
            return answer.status, answer.headers, answer.read(ANSWER_LIMIT_BYTES).decode()
        finally:
            connection.close()


class Watch:
    """Watches for the notice within the `with` block; entering it and leaving it wait for no answer.

    The service's address is `AWS_EC2_METADATA_SERVICE_ENDPOINT`, by default AWS's own; nothing is asked where
    `AWS_EC2_METADATA_DISABLED` is true.

    Args:
        on_notice: called once at most, in the watch's own thread, with one line that says what happens when.
        on_risk: likewise, with one line that says that AWS expects to take the instance; by default it is
            printed as a note.
        poll_s: seconds between two looks.
    """

    def __init__(
        self,
        on_notice: Callable[[str], None],
        *,
        on_risk: Callable[[str], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self._on_notice = on_notice
        self._on_risk = on_risk or _print_note
        self._poll_s = poll_s
        self._left = threading.Event()
        self._knows_risk = False

    def __enter__(self) -> Watch:
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
            endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or DEFAULT_ENDPOINT
            threading.Thread(target=self._watch, args=(endpoint,), name="spot", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A request under way ends by its own timeout; a run that is done needn't wait for that.
        self._left.set()

    def _watch(self, endpoint: str) -> None:
        metadata = Metadata(endpoint)
        while not self._left.is_set():
            notice = None
            try:
                notice = _notice(metadata.get(NOTICE_PATH))
                self._look_for_risk(metadata)
            except BusyError:
                pass
            except (OSError, ValueError, http.client.HTTPException):
                if not metadata.is_found:
                    return  # not on EC2, or the service is turned off
            if notice and not self._left.is_set():
                self._on_notice(notice)
                return
            self._left.wait(self._poll_s)

    def _look_for_risk(self, metadata: Metadata) -> None:
        if self._knows_risk:
            return
        risk = _values(metadata.get(RISK_PATH), "noticeTime")
        if risk and not self._left.is_set():
            self._knows_risk = True
            self._on_risk(f"AWS says since {risk[0]} that it may soon take this spot instance")


def _notice(answer: str | None) -> str | None:
    values = _values(answer, "action", "time")
    if values is None:
        return None
    action, when = values
    return f"the spot instance will be {PAST_TENSES.get(action, f'interrupted ({action})')} at {when}"


def _values(answer: str | None, *keys: str) -> list[str] | None:
    """Return the values of these keys; None if the answer isn't an object that has them as printable text."""
    try:
        known = json.loads(answer or "")
        values = [known[key] for key in keys]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return values if all(isinstance(value, str) and value.isprintable() for value in values) else None


def _print_note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)

"""An instance metadata service of version 2 on this machine, which can misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import count

from engine.training import spot

NOTICE = json.dumps({"action": "terminate", "time": "2026-01-01T00:00:00Z"})


@dataclass
class FakeService:
    """What the service holds and how it behaves; `asked` is (method, path, status) of each request."""

    answers: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    token_life_s: str = "21600"
    token_status: int = 200
    faults: list[int] = field(default_factory=list)  # statuses of the next requests but the first
    delay_s: float = 0.0
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def token(self, headers) -> tuple[int, str]:
        if self.token_status != 200 or not 1 <= int(headers[spot.TOKEN_LIFE_HEADER]) <= 21_600:
            return self.token_status if self.token_status != 200 else 400, ""
        self.tokens.add(token := f"token-{next(self.numbers)}==")
        return 200, token

    def metadata(self, path: str, headers) -> tuple[int, str]:
        if headers[spot.TOKEN_HEADER] not in self.tokens:
            return 401, ""
        return (200, self.answers[path]) if path in self.answers else (404, "")

    def answer(self, method: str, path: str, headers) -> tuple[int, str]:
        if method == "PUT" and path == spot.TOKEN_PATH:
            status, text = self.token(headers)
        else:
            status, text = self.metadata(path, headers)
        if self.asked and self.faults:
            status, text = self.faults.pop(0), ""
        self.asked.append((method, path, status))
        return status, text


def handler_of(service: FakeService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            time.sleep(service.delay_s)
            status, text = service.answer(self.command, self.path, self.headers)
            body = text.encode(errors="surrogateescape")
            self.send_response(status)
            self.send_header("Location", "/latest/moved")
            self.send_header(spot.TOKEN_LIFE_HEADER, service.token_life_s)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = respond  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler

"""What every answer goes through: who may ask, the headers that keep a browser safe, what is counted.

An ASGI application around another.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import time
import traceback
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from engine.serving import fault_answers
from engine.serving.figures import Figures

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATIC = ("/", "/static/")
_OTHER = "other"


class Guard:
    """Lets an application answer only those that it is meant for.

    Args:
        application: that answers.
        figures: that count.
        hosts: by which clients may call the server; None: by any. A page of another site could otherwise
            give its own name this machine's address, and read what is served here.
    """

    def __init__(self, application: Any, figures: Figures, hosts: frozenset[str] | None) -> None:
        self._application, self._figures, self._hosts = application, figures, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began_s, status = time.monotonic(), 0

        async def send_guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, scope["path"])
            await send(message)

        try:
            await self._answer(scope, receive, send_guarded)
        except Exception as error:
            _log(error)
            if not status:
                await _refuse(send_guarded, 500, fault_answers.BUG)
        finally:
            route = getattr(scope.get("route"), "path", _OTHER)
            self._figures.answered(route, scope["method"], status, time.monotonic() - began_s)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            await _refuse(send, 400, "this server doesn't go by that host name")
        elif scope["method"] == "POST" and headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        ):
            await _refuse(send, 403, "sent by another site's page")
        else:
            await self._application(scope, receive, send)


def hosts_of(host: str) -> frozenset[str] | None:
    """Return the names of a server bound to an address; None where others than this machine can reach it."""
    if host == "localhost":
        is_loopback = True
    else:
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if is_loopback else None


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _add_headers(message: Any, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    is_static = path == _STATIC[0] or path.startswith(_STATIC[1])
    headers["Cache-Control"] = "no-cache" if is_static else "no-store"


def _log(error: Exception) -> None:
    # Not its message, which may quote what was uploaded.
    places = "".join(traceback.format_tb(error.__traceback__))
    print(f"{places}{type(error).__name__} in a request", file=sys.stderr, flush=True)


async def _refuse(send: Any, status: int, line: str) -> None:
    body = json.dumps({"error": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

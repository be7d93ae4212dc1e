"""The server's process as others see it: the address that it is bound to and tells, and how it stops."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import uvicorn

from engine.serving.connections import with_bounds
from engine.serving.guard import hosts_of
from records.errors import RunError

if TYPE_CHECKING:
    from engine.serving.service import Service


class Server(uvicorn.Server):
    """Says where it is as soon as it can answer."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        for bound in sockets or []:
            print(f"{_address(bound)} (Ctrl-C stops)", flush=True)


def bind(host: str, port: int) -> socket.socket:
    """Bind, but don't listen yet, so that nobody connects to a server that can't answer.

    Raises:
        RunError: no such host, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"{host}:{port}: can't be bound to: {reason}; choose another --port or --host"
        ) from error
    return bound


def server(service: Service, host: str) -> Server:
    """Build the server of a service.

    Args:
        service: that answers.
        host: that the server is bound to.
    """
    from engine.serving import application

    config = uvicorn.Config(
        application.build(service, hosts_of(host)),
        http=with_bounds(service.bounds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=service.bounds.stop_s,
    )
    return Server(config)


def until_stopped(serving: Server, bound: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, and then for as long as requests are in flight."""
    # Uvicorn raises the signals again that have stopped it; to have stopped as asked is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(serving, "should_exit", True))
    serving.run(sockets=[bound])


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

"""Waits for other threads' work as long as the client does, and not longer than is allowed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from starlette.requests import Request

from engine.serving.faults import ClientGoneError, RequestError

T = TypeVar("T")


async def wait(request: Request, work: Future[T], seconds: float, late: RequestError) -> T:
    """Wait for work whose request was read to its end.

    Args:
        request: of the client.
        work: is cancelled when nobody waits for it any more; what is running already runs on.
        seconds: to wait, at most.
        late: raised when they are over.

    Raises:
        ClientGoneError: the client has closed the connection.
    """
    result = asyncio.wrap_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((result, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientGoneError if gone.done() else late
    finally:
        gone.cancel()
        result.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

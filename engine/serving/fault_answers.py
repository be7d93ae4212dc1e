"""How each fault is answered: its status and `{"error": line}`, without a path or a word of what was sent."""

from __future__ import annotations

import sys

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine.serving.faults import ClientGoneError, RequestError
from records.errors import CxrError

# Never sent; nginx's word for it, which `/metrics` counts.
GONE = 499
BUG = "a fault of the server's; its own output says where"
_LINES = {404: "nothing is here", 405: "not by this method"}


def add(app: FastAPI) -> None:
    """Have an application answer faults so."""
    app.exception_handler(RequestError)(_of_request)
    app.exception_handler(RequestValidationError)(_of_value)
    app.exception_handler(HTTPException)(_of_http)
    app.exception_handler(CxrError)(_of_data)
    app.exception_handler(ClientGoneError)(_gone)
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(Exception)(_of_bug)


async def _of_request(_request: Request, error: RequestError) -> Response:
    return JSONResponse({"error": error.line}, error.status, headers=error.headers)


async def _of_value(_request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return JSONResponse({"error": f"`{first['loc'][-1]}` is not as expected: {first['msg']}"}, 422)


async def _of_http(_request: Request, error: HTTPException) -> Response:
    line = _LINES.get(error.status_code, "can't be answered")
    return JSONResponse({"error": line}, error.status_code, headers=error.headers)


async def _of_data(_request: Request, error: CxrError) -> Response:
    # The line names files of this machine: it is for whoever runs the server.
    print(f"error: {error}", file=sys.stderr, flush=True)
    line = "the model or the data set is at fault; the server's own output says how"
    return JSONResponse({"error": line}, 500)


async def _of_bug(_request: Request, _error: Exception) -> Response:
    # Starlette raises it again behind this answer, and the guard says where it came from.
    return JSONResponse({"error": BUG}, 500)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=GONE)

"""The whole application: the API, the page's files, and the guard around both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from engine.serving import fault_answers
from engine.serving.guard import Guard
from engine.serving.routes import router
from engine.serving.service import Service

# Newer FastAPI would hand what is asked for to OpenTelemetry wherever the process has that set up.
_NO_TELEMETRY: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
STATIC = Path(__file__).with_name("static")


def build(service: Service, hosts: frozenset[str] | None = None) -> Guard:
    """Build the ASGI application of a service; its lifespan starts and ends the model thread.

    Args:
        service: that answers.
        hosts: by which clients may call the server; None: by any.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        await asyncio.sleep(0)
        yield
        stop.set()
        await running

    app = FastAPI(
        title="cxr-engine",
        version=metadata.version("cxr-engine"),
        description="Reads chest X-rays with a trained model. For research only: no medical device.",
        # Both pages would fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
    )
    fault_answers.add(app)
    app.include_router(router(service))
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    return Guard(app, service.figures, hosts)

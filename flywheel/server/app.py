"""The application: all routes of the server, over one data folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from flywheel.schema import FlywheelError
from flywheel.server import (
    capture,
    corpora,
    describing,
    errors,
    exports,
    gateway,
    github,
    health,
    otlp,
    outcomes,
    reading,
)
from flywheel.server.config import Config
from flywheel.server.limits import Limits
from flywheel.server.outermost import Outermost
from flywheel.server.running import Running
from flywheel.server.settling import keep_settling, settle_all
from flywheel.settings import Home

ROUTERS = (health, capture, outcomes, reading, corpora, github, exports, otlp, gateway)


def create_app(home: Home, config: Config | None = None) -> FastAPI:
    """The application over a data folder. Its description is at /openapi.json; pages that load scripts are off."""
    app = FastAPI(
        title="flywheel",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        responses={
            status: {"description": text, "content": describing.content(errors.Failure)}
            for status, text in errors.STATUSES.items()
        },
    )
    app.state.running = running = Running(home, config or Config())
    # The last one added is the outermost.
    app.add_middleware(Limits, running=running)
    app.add_middleware(Outermost)
    for error in (FlywheelError, RequestValidationError, HTTPException, OSError):
        app.add_exception_handler(error, errors.refused)
    for module in ROUTERS:
        app.include_router(module.router)
    app.router.routes[:0] = gateway.ROUTES
    app.openapi = lambda: describing.description(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    running: Running = app.state.running
    async with running:
        settling = asyncio.create_task(keep_settling(running))
        try:
            yield
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
    # The writers are closed: all that has ended can be stored, and their journals go.
    await asyncio.to_thread(settle_all, running)

"""The application: all routes of the server, over one data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from flywheel.schema import FlywheelError
from flywheel.server import describing, errors
from flywheel.server.config import Config
from flywheel.server.limits import Limits
from flywheel.server.outermost import Outermost
from flywheel.server.running import Running
from flywheel.settings import Home

ROUTERS = ("health", "capture", "outcomes", "reading", "exports", "otlp", "gateway")


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
    config = config or Config()
    app.state.running = Running(home, config)
    # The last one added is the outermost.
    app.add_middleware(Limits, config=config)
    app.add_middleware(Outermost)
    for error in (FlywheelError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, errors.refused)
    for name in ROUTERS:
        if find_spec(f"flywheel.server.{name}"):
            app.include_router(import_module(f"flywheel.server.{name}").router)
    app.openapi = lambda: describing.description(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    running: Running = app.state.running
    async with running:
        yield

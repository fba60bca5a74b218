"""The application: all routes of the server, over one data folder."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from flywheel.schema import FlywheelError
from flywheel.server.config import Config
from flywheel.server.running import Running
from flywheel.settings import Home


def create_app(home: Home, config: Config | None = None) -> FastAPI:
    """The application over a data folder. Its description is at /openapi.json; pages that load scripts are off."""
    app = FastAPI(title="flywheel", docs_url=None, redoc_url=None)
    app.state.running = Running(home, config or Config())
    app.add_exception_handler(FlywheelError, _refused)
    return app


def _refused(_request: object, error: Exception) -> JSONResponse:
    return JSONResponse({"error": {"type": type(error).__name__, "message": str(error)}}, status_code=400)

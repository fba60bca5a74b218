"""`/health`: the server is there; `/ready`: it can write."""

from __future__ import annotations

import shutil
import tempfile
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from fastapi.responses import Response

from flywheel.server.describing import answers
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running

router = APIRouter(tags=["health"])


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`, while it is."""

    status: str = "ok"


@router.get("/health", responses=answers(Health, "It is."))
async def health() -> Response:
    """Whether the server is there."""
    return Response(msgspec.json.encode(Health()), media_type="application/json")


@router.get("/ready", responses=answers(Health, "It can."))
def ready(here: Annotated[Running, Depends(running)]) -> Response:
    """Whether what is sent to the server can be written: the data folder takes files, and the disk has room."""
    root, wanted = here.home.root, here.config.free_bytes
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"ready")
            file.flush()
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise Refused(503, f"the data folder cannot be written: {error.strerror}", retry_after_s=30) from error
    if free < wanted:
        raise Refused(503, f"the disk has {free:,} bytes left; {wanted:,} are wanted", retry_after_s=30)
    return Response(msgspec.json.encode(Health()), media_type="application/json")

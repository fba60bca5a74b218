"""Errors as answers: one shape for all of them, with a status that says whose turn it is."""

from __future__ import annotations

import errno
from http import HTTPStatus

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flywheel.capture.access import Denied
from flywheel.capture.journals.journal import Full
from flywheel.schema import FlywheelError

FULL_S = 30  # seconds after which somebody may have made room
NO_ROUTE = (
    "there is nothing at this path: base URLs begin with /w/WORKSPACE, as `flywheel serve` prints them, and "
    "/openapi.json describes every route"
)


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was wrong: its kind, a sentence for people, and the number by which the server's log knows the request.

    `reason` says what of a token does not do.
    """

    type: str
    message: str
    reason: str = ""
    request_id: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is no success."""

    error: Error


class Refused(FlywheelError):
    """A request that is turned down with a status of its own; `retry_after_s` says when it may come again."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


# What any route may answer, for the description of the interface.
STATUSES = {
    400: "It cannot be read, or asks for what cannot be.",
    401: "A token is needed, or the one given is unknown, expired or revoked.",
    403: "The token is of another workspace, or lacks the role.",
    404: "There is no such thing.",
    405: "This route takes other methods.",
    408: "The request did not arrive in time.",
    413: "The body is too large, packed or unpacked.",
    415: "The body is of a type or an encoding that is not read here.",
    429: "Too many requests: come again after Retry-After seconds.",
    431: "The headers are too large.",
    500: "The server failed; its log knows the request by its id.",
    503: "The disk is full, or the server is busy: come again after Retry-After seconds. Nothing was recorded.",
}


def kind(status: int) -> str:
    """The name of an error: `not_found` for 404."""
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")


def answer(
    status: int, message: str, request_id: str = "", *, reason: str = "", retry_after_s: float | None = None
) -> Response:
    """An error as an answer."""
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    failure = Failure(error=Error(type=kind(status), message=message, reason=reason, request_id=request_id))
    return Response(msgspec.json.encode(failure), status, headers, media_type="application/json")


def refused(request: Request, error: Exception) -> Response:
    """The answer to a request that raised an error which is the client's, or the disk's."""
    id = request.scope.get("flywheel.request", "")
    if isinstance(error, Refused):
        return answer(error.status, str(error), id, retry_after_s=error.retry_after_s)
    if isinstance(error, RequestValidationError):
        return answer(400, "; ".join(_told(e) for e in error.errors()), id)
    if isinstance(error, HTTPException):
        # Without a detail of ours, it is of the router.
        routed = (error.status_code, error.detail) == (404, HTTPStatus.NOT_FOUND.phrase)
        made = answer(error.status_code, NO_ROUTE if routed else str(error.detail), id)
        made.headers.update(error.headers or {})
        return made
    if isinstance(error, Denied):
        # Another token would do, or this one is known and may not.
        return answer(403 if error.reason in ("workspace", "role") else 401, str(error), id, reason=error.reason)
    if isinstance(error, Full):
        return answer(503, str(error), id, retry_after_s=FULL_S)
    if isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        return answer(503, "the disk is full", id, retry_after_s=FULL_S)
    return answer(400, str(error), id)


def _told(error: dict) -> str:
    """Where something is wrong and what, without the value: it may be a secret."""
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"

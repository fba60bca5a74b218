"""`/w/{workspace}/otlp`: what an OpenTelemetry SDK or collector exports over HTTP, as protobuf or JSON.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flywheel.capture.journals.events import Event, SetAside, Spanned
from flywheel.capture.journals.journal import Full
from flywheel.capture.otlp import Kind, Receiver, quarantined
from flywheel.capture.redaction import boundary
from flywheel.capture.redaction.redact import redactor
from flywheel.schema import FlywheelError
from flywheel.server import errors
from flywheel.server.access import allowed
from flywheel.server.describing import schema
from flywheel.server.errors import STATUSES, Failure, Refused
from flywheel.server.running import Running, running

log = logging.getLogger("flywheel.server")

PROTOBUF, JSON = "application/x-protobuf", "application/json"
RETRY_S = 2  # after which an exporter comes again to a full disk: SDKs give up after 10 in all
CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    503: code_pb2.UNAVAILABLE,
}


class Route(APIRoute):
    """A route whose errors are those of OTLP: a google.rpc.Status, as protobuf or JSON like the request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors as answers."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except (FlywheelError, HTTPException, RequestValidationError, OSError) as error:
                return _failed(request, error)

        return handled


Workspace = Annotated[str, Path(description="The workspace.")]
Here = Annotated[Running, Depends(running)]
MEDIA: dict[str, Any] = {
    PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
    JSON: {"schema": {"type": "object"}},
}
BODY = {"requestBody": {"required": True, "content": MEDIA}}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "It is on disk. `partialSuccess` tells of what could not be read; that goes into quarantine.",
        "content": MEDIA,
    }
}

STATUS = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["message"],
}
# Of the protocol's own form; what is refused before it is read, of the server's.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {PROTOBUF: MEDIA[PROTOBUF], JSON: {"schema": {"anyOf": [STATUS, schema(Failure)]}}},
    }
    for status, text in STATUSES.items()
}

router = APIRouter(
    prefix="/w/{workspace}/otlp/v1",
    tags=["opentelemetry"],
    responses=ERRORS,
    route_class=Route,
    dependencies=[Depends(allowed("capture"))],
)


@router.post("/traces", responses=ANSWER, openapi_extra=BODY)
async def traces(request: Request, workspace: Workspace, here: Here) -> Response:
    """Spans: an ExportTraceServiceRequest. The answer comes when they are on disk."""
    refused, first = await _taken("traces", request, workspace, here)
    answer = ExportTraceServiceResponse()
    if refused:
        answer.partial_success.rejected_spans = refused
        answer.partial_success.error_message = _quarantined(refused, "spans", first)
    return _answer(request, answer)


@router.post("/logs", responses=ANSWER, openapi_extra=BODY)
async def logs(request: Request, workspace: Workspace, here: Here) -> Response:
    """Log records: an ExportLogsServiceRequest. GenAI events are kept with their spans, other records are not."""
    refused, first = await _taken("logs", request, workspace, here)
    answer = ExportLogsServiceResponse()
    if refused:
        answer.partial_success.rejected_log_records = refused
        answer.partial_success.error_message = _quarantined(refused, "log records", first)
    return _answer(request, answer)


@router.post("/metrics", responses=ANSWER, openapi_extra=BODY)
async def metrics(request: Request) -> Response:
    """Metrics are taken and not kept, so that an SDK that exports everything to one place does not complain."""
    await request.body()
    answer = ExportMetricsServiceResponse()
    answer.partial_success.error_message = "metrics are not kept here: OTEL_METRICS_EXPORTER=none"
    return _answer(request, answer)


async def _taken(kind: Kind, request: Request, workspace: str, here: Running) -> tuple[int, str]:
    """Make the spans of a request durable; how many were set aside, and why the first was."""
    as_json, data = _is_json(request), await request.body()
    receiver = _receiver(request, here, workspace)
    taken = await here.parse(data, lambda: receiver.take(kind, data, as_json=as_json))
    at = here.clock()
    events: list[Event] = [
        Spanned(at=at, span=span, agent=str(span.resource.get("service.name") or "")) for span in taken.spans
    ]
    events += map(SetAside, quarantined(workspace, kind, taken.refused, at))
    log.debug(
        "otlp %s: %d spans or events kept, %d set aside, %d log records that tell of no model",
        kind,
        len(taken.spans),
        len(taken.refused),
        taken.passed_over,
    )
    if events:
        await here.writer(workspace).write(events)
    return len(taken.refused), taken.refused[0].error if taken.refused else ""


def _receiver(request: Request, here: Running, workspace: str) -> Receiver:
    """The workspace's receiver: it lives as long as the server."""
    state = request.app.state
    if not hasattr(state, "otlp"):
        state.otlp = {}
    if workspace not in state.otlp:
        state.otlp[workspace] = Receiver(
            lambda: redactor(here.home, workspace), lambda: boundary.of(here.home, workspace, "otlp")
        )
    return state.otlp[workspace]


def _is_json(request: Request) -> bool:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in (PROTOBUF, JSON):
        raise Refused(415, f"Content-Type is {PROTOBUF} or {JSON}")
    return media == JSON


def _quarantined(count: int, what: str, first: str) -> str:
    return f"{count} {what} could not be read and go into quarantine; the first: {first}"


def _answer(request: Request, message: Message, code: int = 200) -> Response:
    if request.headers.get("content-type", "").startswith(JSON):
        return Response(MessageToJson(message, indent=None), code, media_type=JSON)
    return Response(message.SerializeToString(), code, media_type=PROTOBUF)


def _failed(request: Request, error: Exception) -> Response:
    """An error as the protocol has it, with the status and the headers that it has anywhere else."""
    told = errors.refused(request, error)
    message = msgspec.json.decode(told.body, type=errors.Failure).error.message
    code = CODES.get(told.status_code, code_pb2.UNKNOWN)
    made = _answer(request, status_pb2.Status(code=code, message=message), told.status_code)
    for name in ("Retry-After", "WWW-Authenticate"):
        if name in told.headers:
            made.headers[name] = told.headers[name]
    if isinstance(error, Full):
        made.headers["Retry-After"] = str(RETRY_S)
    return made

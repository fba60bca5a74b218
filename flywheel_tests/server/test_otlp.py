"""OpenTelemetry in: real exporters and instrumentations against a live server."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc import status_pb2
from openai import OpenAI
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenTelemetry
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from flywheel import warehouse
from flywheel.capture.importers import trace
from flywheel.capture.importers.trace import Trace
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Spanned
from flywheel.capture.journals.journal import Full
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, Step, ToolCall, trajectory_of
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.capture.importers.test_otlp import CURRENT, request, span
from flywheel_tests.capture.importers.test_trace import EVENTS, log, logs
from flywheel_tests.capture.test_otlp import SPAN, TRACE, protobuf
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.upstream import Port, Say, Upstream

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Oslo? I am ann@x.org"}]
STEPS = [
    Step(role="system", content="Be kind."),
    Step(role="user", content="Oslo? I am <EMAIL>"),
    Step(role="assistant", tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city":"Oslo"}'),)),
    Step(role="tool", content="sun", tool_call_id="c1", tool_name="weather"),
    Step(role="assistant", content="Sun."),
]


def told(home: Home) -> list[Trace]:
    """What the journals hold, a trace."""
    of_id: dict[str, list[Any]] = {}
    for path in journal.paths(home.journals / "desk"):
        for _, event in journal.read(path)[0]:
            assert isinstance(event, Spanned)
            of_id.setdefault(event.span.trace, []).append(event.span)
    return [trace.of(spans) for spans in of_id.values()]


def plain(steps: Sequence[Step]) -> list[Step]:
    """The steps without what only some conventions tell."""
    return [
        Step(
            role=s.role,
            content=s.content or None,
            tool_calls=tuple(
                ToolCall(id=c.id, name=c.name, arguments=json.dumps(json.loads(c.arguments), separators=(",", ":")))
                for c in s.tool_calls
            ),
            tool_call_id=s.tool_call_id,
            tool_name=s.tool_name,
        )
        for s in steps
    ]


@pytest.fixture
def upstream(upstreams: Port) -> Upstream:
    """A model that calls a tool, then answers."""
    return upstreams.add(Upstream(Say(calls=(("c1", "weather", '{"city":"Oslo"}'),)), Say(text="Sun.")))


def talk(upstream: Upstream, *, stream: bool = False) -> None:
    """An agent's loop on the SDK of OpenAI, that knows nothing of flywheel."""
    with OpenAI(base_url=f"{upstream.url}/v1", api_key="sk-none") as client:
        messages: list[Any] = list(ASKED)
        made: dict[str, Any] = {"model": "scripted-1", "tools": TOOLS}
        for _ in range(2):
            if stream:
                more = {"stream": True, "stream_options": {"include_usage": True}}
                text, calls = "", []
                for chunk in client.chat.completions.create(messages=messages, **made, **more):
                    for choice in chunk.choices:
                        text += choice.delta.content or ""
                        for part in choice.delta.tool_calls or []:
                            calls += [part] if part.id else []
                            if not part.id and part.function and part.function.arguments:
                                calls[-1].function.arguments += part.function.arguments
                answer: dict[str, Any] = {"role": "assistant", "content": text or None}
                if calls:
                    answer["tool_calls"] = [c.model_dump(exclude={"index"}) for c in calls]
            else:
                answer = client.chat.completions.create(messages=messages, **made).choices[0].message.model_dump()
                answer = {k: v for k, v in answer.items() if v is not None}
            messages.append(answer)
            if answer.get("tool_calls"):
                messages.append({"role": "tool", "tool_call_id": "c1", "content": "sun"})


Instrumented = Callable[..., tuple[TracerProvider, LoggerProvider]]


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], tuple[TracerProvider, LoggerProvider]]]:
    """The SDK as a user sets it up, by the variables of the documentation alone."""
    made: list[Any] = []

    def export(url: str, **more: str) -> tuple[TracerProvider, LoggerProvider]:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{url}/w/desk/otlp", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        for name, value in (variables | more).items():
            monkeypatch.setenv(name, value)
        resource = Resource.create({"service.name": "helpdesk", "service.version": "7"})
        tracers, loggers = TracerProvider(resource=resource), LoggerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        made.extend([tracers, loggers])
        return tracers, loggers

    yield export  # type: ignore[misc]
    for provider in made:
        provider.shutdown()


LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "variables",
    [
        {CONTENT: "true"},
        LATEST | {CONTENT: "span_only"},
        LATEST | {CONTENT: "event_only", "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"},
        LATEST | {CONTENT: "span_and_event", "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"},
    ],
    ids=["events of before", "span", "event", "span and event"],
)
def test_the_instrumentation_of_opentelemetry(
    desk: Home, live: Live, upstream: Upstream, exporting: Any, variables: dict[str, str], stream: bool
) -> None:
    from opentelemetry.instrumentation import _semconv

    _semconv._OpenTelemetrySemanticConventionStability._initialized = False  # it reads its variables once a process
    tracers, loggers = exporting(live(desk), **variables)
    instrumented = OpenTelemetry()
    instrumented.instrument(tracer_provider=tracers, logger_provider=loggers, skip_dep_check=True)
    try:
        with tracers.get_tracer("agent").start_as_current_span("loop"):
            talk(upstream, stream=stream)
    finally:
        instrumented.uninstrument()
    assert tracers.force_flush() and loggers.force_flush()
    _holds(desk)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_instrumentation_of_openinference(
    desk: Home, live: Live, upstream: Upstream, exporting: Any, stream: bool
) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    tracers, _ = exporting(live(desk))
    instrumented = OpenAIInstrumentor()
    instrumented.instrument(tracer_provider=tracers, skip_dep_check=True)
    try:
        with tracers.get_tracer("agent").start_as_current_span("loop"):
            talk(upstream, stream=stream)
    finally:
        instrumented.uninstrument()
    assert tracers.force_flush()
    _holds(desk)


def _holds(desk: Home) -> None:
    assert b"ann@x.org" not in b"".join(p.read_bytes() for p in journal.paths(desk.journals / "desk"))
    [one] = told(desk)
    assert (one.models, one.bad) == (2, [])
    settled = settle(desk, "desk", datetime.now(UTC) + timedelta(hours=1))
    assert (settled.trajectories, settled.quarantined, settled.waiting) == (1, 0, 0)
    [row] = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    trajectory = trajectory_of(row)
    assert plain(trajectory.steps) == STEPS
    assert [s.completion_tokens for s in trajectory.steps if s.role == "assistant"] == [7, 7]
    assert (trajectory.agent, trajectory.agent_version, trajectory.model) == ("helpdesk", "7", "scripted-1")
    assert (trajectory.source, trajectory.end_state) == ("otlp", "completed")


def test_a_conversation_that_the_sdk_cut_is_told_and_not_stored(desk: Home, live: Live, exporting: Any) -> None:
    tracers, _ = exporting(live(desk), OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="20")
    said = {
        f"llm.input_messages.{n}.message.{k}": v for n in range(20) for k, v in (("role", "user"), ("content", "x"))
    }
    with tracers.get_tracer("x").start_as_current_span("chat") as one:
        one.set_attribute("openinference.span.kind", "LLM")
        one.set_attributes(said)
        one.set_attribute("openinference.span.kind", "LLM")
    assert tracers.force_flush()
    settle(desk, "desk", datetime.now(UTC))
    [bad] = warehouse.read(desk.quarantine, QUARANTINE, "desk").to_pylist()
    assert "the SDK dropped" in bad["error"] and "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in bad["error"]


def test_evaluations_that_are_logged_in_the_context_of_a_span_are_outcomes(
    desk: Home, live: Live, exporting: Any
) -> None:
    tracers, loggers = exporting(live(desk))
    with tracers.get_tracer("x").start_as_current_span("chat", attributes=CURRENT):
        scored = {"gen_ai.evaluation.name": "Relevance", "gen_ai.evaluation.score.value": 0.75}
        loggers.get_logger("evals").emit(event_name="gen_ai.evaluation.result", attributes=scored)
        loggers.get_logger("evals").emit(event_name="gen_ai.evaluation.result", attributes={"error.type": "timeout"})
    assert tracers.force_flush() and loggers.force_flush()
    assert settle(desk, "desk", datetime.now(UTC) + timedelta(hours=1)).outcomes == 1
    [row] = warehouse.read(desk.outcomes, OUTCOMES, "desk").to_pylist()
    assert (row["signal"], row["value"], row["step_index"], row["source"]) == ("Relevance", 0.75, 3, "otlp")
    [bad] = warehouse.read(desk.quarantine, QUARANTINE, "desk").to_pylist()
    assert "gen_ai.evaluation.name" in bad["error"]


@pytest.mark.parametrize("compression", list(Compression))
def test_every_compression_of_the_exporter(desk: Home, live: Live, compression: Compression) -> None:
    tracers = TracerProvider()
    exporter = OTLPSpanExporter(f"{live(desk)}/w/desk/otlp/v1/traces", compression=compression)
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    with tracers.get_tracer("x").start_as_current_span("chat", attributes=CURRENT):
        pass
    tracers.shutdown()
    [one] = told(desk)
    assert len(one.conversations[0].steps) == 4


def post(url: str, data: bytes, kind: str = "application/json", **headers: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": kind} | {k.replace("_", "-"): v for k, v in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


BAD = CURRENT | {"gen_ai.input.messages": '[{"role": "wizard ann@x.org", "content": "x"}]'}


def test_what_cannot_be_read_is_told_and_quarantined(desk: Home, live: Live) -> None:
    url = live(desk) + "/w/desk/otlp/v1"
    body = request(span(CURRENT, SPAN, TRACE), span(BAD, SPAN, TRACE))
    for _ in range(2):  # sent again, it is the same
        status, _, answer = post(f"{url}/traces", json.dumps(body).encode())
        said = json.loads(answer)["partialSuccess"]
        assert (status, said["rejectedSpans"]) == (200, "1")
        assert "wizard <EMAIL>" in said["errorMessage"]
    _, headers, answer = post(f"{url}/traces", protobuf("traces", body), "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1
    assert headers["content-type"] == "application/x-protobuf"
    lost = logs(log(*EVENTS[0], span_id=""))
    said = json.loads(post(f"{url}/logs", json.dumps(lost).encode())[2])["partialSuccess"]
    assert said["rejectedLogRecords"] == "1" and "names no span" in said["errorMessage"]
    settle(desk, "desk", datetime.now(UTC))
    rows = warehouse.read(desk.quarantine, QUARANTINE, "desk").sort_by("source").to_pylist()
    assert [row["source"] for row in rows] == ["otlp/logs", "otlp/traces"]
    assert "ann@x.org" not in repr(rows)


def test_all_that_is_well_is_an_empty_answer(desk: Home, live: Live) -> None:
    url = live(desk) + "/w/desk/otlp/v1"
    body = json.dumps(request(span(CURRENT, SPAN, TRACE))).encode()
    assert post(f"{url}/traces", body)[::2] == (200, b"{}")
    assert post(f"{url}/traces", gzip.compress(body), Content_Encoding="gzip")[::2] == (200, b"{}")
    assert post(f"{url}/traces", zlib.compress(body), Content_Encoding="deflate")[::2] == (200, b"{}")
    assert post(f"{url}/logs", b"", "application/x-protobuf")[::2] == (200, b"")
    assert len(told(desk)[0].conversations) == 1


def test_metrics_are_taken_and_not_kept(desk: Home, live: Live) -> None:
    status, _, answer = post(live(desk) + "/w/desk/otlp/v1/metrics", b'{"resourceMetrics": []}')
    assert status == 200 and "not kept" in json.loads(answer)["partialSuccess"]["errorMessage"]


def test_errors_are_those_of_the_protocol(desk: Home, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    url = live(desk, Config(body_bytes=2**20))
    traces = url + "/w/desk/otlp/v1/traces"
    status, _, answer = post(traces, b"{")
    assert status == 400 and json.loads(answer)["code"] == 3
    status, headers, answer = post(traces, b"\xff", "application/x-protobuf")
    assert status == 400 and headers["content-type"] == "application/x-protobuf"
    assert "no OTLP request" in status_pb2.Status.FromString(answer).message
    assert post(traces, b"{}", "text/plain")[0] == 415
    assert post(url + "/w/nowhere/otlp/v1/traces", b"{}")[0] in (401, 404)
    assert post(traces, gzip.compress(bytes(2**22)), Content_Encoding="gzip")[0] == 413
    assert post(traces, b"not gzip", Content_Encoding="gzip")[0] == 400

    async def full(*_: object, **__: object) -> str:
        raise Full("no space left on device")

    monkeypatch.setattr(Writer, "write", full)
    status, headers, answer = post(traces, json.dumps(request(span(CURRENT, SPAN, TRACE))).encode())
    assert (status, headers["retry-after"], json.loads(answer)["code"]) == (503, "2", 14)


PAGE = (Path(__file__).parents[2] / "docs/opentelemetry.md").read_text()


@pytest.mark.parametrize("number", [1, 2], ids=["OpenTelemetry", "OpenInference"])
def test_the_programs_of_the_documentation(desk: Home, live: Live, upstreams: Port, number: int) -> None:
    program = PAGE.split("```python\n")[number].split("```")[0]
    url = live(desk)
    variables = dict(re.findall(r"^export (OTEL_\w+)=(\S+)$", PAGE, re.M)) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{url}/w/desk/otlp",
        "OTEL_EXPORTER_OTLP_HEADERS": "",
        "OPENAI_BASE_URL": upstreams.add(Upstream(Say(text="On its way."))).url + "/v1",
        "OPENAI_API_KEY": "sk-none",
    }
    ran = subprocess.run([sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True)
    assert ran.stdout.strip() == "On its way.", ran.stderr
    [one] = told(desk)
    answer = httpx.post(f"{url}/w/desk/t/{one.id}/end")  # also in the documentation
    assert answer.status_code < 300
    settle(desk, "desk", datetime.now(UTC))
    [row] = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    assert [(s.role, s.content) for s in trajectory_of(row).steps] == [
        ("user", "Where is my parcel?"),
        ("assistant", "On its way."),
    ]

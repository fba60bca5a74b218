"""Evaluations of spans, however and whenever they come, are outcomes of the trajectories that hold them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flywheel import warehouse
from flywheel.capture.importers import evaluations, trace
from flywheel.capture.importers.records import Bad, Record
from flywheel.capture.importers.spans import Span
from flywheel.capture.journals.events import Spanned
from flywheel.capture.journals.writer import Writer
from flywheel.capture.otlp import Receiver
from flywheel.capture.redaction.boundary import Boundary, whole
from flywheel.capture.redaction.policy import Layers
from flywheel.capture.redaction.redact import Redactor
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, stable_id
from flywheel.settings import Home
from flywheel_tests.capture.importers.conftest import Read
from flywheel_tests.capture.importers.conftest import read as read
from flywheel_tests.capture.importers.test_otlp import request, span
from flywheel_tests.capture.importers.test_trace import log, logs

EVENT = "gen_ai.evaluation.result"
T = "5b8efff798038103d269b633813fc60c"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def said(*texts: str) -> list[dict[str, Any]]:
    """A conversation, the user first."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def model(id: str, *texts: str, parent: str = "agent", **more: Any) -> Any:
    """A call of a model whose answer is the last text, as OTLP writes it."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps(said(*texts[:-1])),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": texts[-1]}]),
        "gen_ai.response.id": f"answer-{id}",
    }
    return span(attributes, id.ljust(16, "0"), T, parentSpanId=parent.ljust(16, "0"), **more)


SPANS = request(
    span({"gen_ai.operation.name": "invoke_agent"}, "agent".ljust(16, "0"), T),
    model("a", "1", "2"),
    model("b", "1", "2", "3", "4"),
    span({"gen_ai.operation.name": "invoke_agent"}, "sub".ljust(16, "0"), T, parentSpanId="agent".ljust(16, "0")),
    model("c", "other", "x", parent="sub"),
)


def score(id: str, name: str = "Relevance", **fields: Any) -> Any:
    """An evaluation of a span, as a log record."""
    about = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": 0.5}
    return log(EVENT, None, id and id.ljust(16, "0"), 9, **about | fields) | {"traceId": T}


def bare(id: str, **attributes: Any) -> Span:
    return Span(trace=T, id=id, attributes={}, events=[(EVENT, attributes)], logged_at=NOON)


@pytest.mark.parametrize(
    ("told", "value", "comment"),
    [
        ({"score.value": 0.25}, 0.25, ""),
        ({"score.value": 4, "score.label": "good", "explanation": "on time"}, 4.0, "good: on time"),
        ({"score.label": "pass"}, 1.0, "pass"),
        ({"score.label": "not_relevant", "explanation": "off"}, 0.0, "not_relevant: off"),
    ],
)
def test_a_number_counts_else_a_label_that_stands_for_one(told: dict[str, Any], value: float, comment: str) -> None:
    [one] = evaluations.of(bare("s", **{f"gen_ai.evaluation.{k}": v for k, v in ({"name": "N"} | told).items()}))
    assert (one.name, one.value, one.comment, one.at) == ("N", value, comment, NOON)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"gen_ai.evaluation.score.value": 1.0}, "name of 1 to 512"),
        ({"gen_ai.evaluation.name": "N"}, "score.value that is a number"),
        ({"gen_ai.evaluation.name": "N", "gen_ai.evaluation.score.label": "meh"}, "score.value that is a number"),
        ({"gen_ai.evaluation.name": "N", "gen_ai.evaluation.score.value": "1"}, "score.value that is a number"),
        ({"gen_ai.evaluation.name": "N", "gen_ai.evaluation.score.value": float("nan")}, "that is a number"),
        ({"gen_ai.evaluation.name": "N", "error.type": "timeout"}, "failed itself: timeout"),
    ],
)
def test_what_is_no_score_says_why(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        evaluations.of(bare("s", **told))


def spanned(*bodies: Any, boundary: Boundary | None = None) -> list[Spanned]:
    """What the server makes of requests."""
    receiver = Receiver(Redactor, lambda: boundary or whole())
    made = []
    for body in bodies:
        kind = "logs" if "resourceLogs" in body else "traces"
        taken = receiver.take(kind, json.dumps(body).encode(), as_json=True)
        assert not taken.refused, taken.refused
        made += taken.spans
    return [Spanned(NOON, one) for one in made]


def store(home: Home, *events: Spanned, at: datetime = NOON + HOUR) -> None:
    """Write and settle them, as one server's life."""
    with Writer(home, "desk") as writer:
        writer.put(events).result(5)
    settle(home, "desk", at)


def outcomes(home: Home) -> list[tuple[str, str, float, int | None]]:
    rows = warehouse.read(home.outcomes, OUTCOMES, "desk").to_pylist()
    return sorted(((r["trajectory_id"], r["signal"], r["value"], r["step_index"]) for r in rows), key=repr)


SUB = stable_id(T, f"{T}:{'c'.ljust(16, '0')}")
SCORES = [score("a"), score("b"), score("c"), score("agent", "Resolved"), score("sub", "Resolved")]


@pytest.mark.parametrize("order", [1, -1])
def test_a_call_is_evaluated_as_its_step_and_an_agent_as_its_conversation(desk: Home, order: int) -> None:
    events = spanned(SPANS, logs(*SCORES))[::order]
    store(desk, *events)
    expected = [(T, "Relevance", 0.5, 1), (T, "Relevance", 0.5, 3), (T, "Resolved", 0.5, None)]
    expected += [(SUB, "Relevance", 0.5, 1), (SUB, "Resolved", 0.5, None)]
    assert outcomes(desk) == sorted(expected, key=repr)
    store(desk, *events, at=NOON + 2 * HOUR)  # sent again
    assert len(outcomes(desk)) == 5
    assert warehouse.read(desk.quarantine, QUARANTINE, "desk").num_rows == 0


def test_one_that_comes_when_its_trace_is_stored_and_gone_finds_its_trajectory(desk: Home) -> None:
    store(desk, *spanned(SPANS))
    assert not list((desk.journals / "desk").glob("*.jsonl"))
    store(desk, *spanned(logs(*SCORES)), at=NOON + 2 * HOUR)
    # Which step a call was is not told any more; what is no call's span is of the longest conversation.
    assert outcomes(desk) == [(T, "Relevance", 0.5, None), (T, "Resolved", 0.5, None), (SUB, "Relevance", 0.5, None)]


def test_several_of_one_moment_are_all_kept(desk: Home) -> None:
    with Writer(desk, "desk") as writer:  # a living one, whose journal stays
        for name in ("Relevance", "Coherence"):
            writer.put(spanned(SPANS, logs(score("b", name)))).result(5)
            settle(desk, "desk", NOON + HOUR)
        settle(desk, "desk", NOON + HOUR)
    assert outcomes(desk) == [(T, "Coherence", 0.5, 3), (T, "Relevance", 0.5, 3)]


def test_without_a_span_the_answer_says_what_is_evaluated(desk: Home) -> None:
    store(desk, *spanned(SPANS, logs(score("", **{"gen_ai.response.id": "answer-b"}))))
    assert outcomes(desk) == [(T, "Relevance", 0.5, 3)]
    lost = logs(score("") | {"traceId": ""})
    [refused] = Receiver(Redactor).take("logs", json.dumps(lost).encode(), as_json=True).refused
    assert "names no span" in refused.error


def test_a_span_may_hold_it_as_an_event_of_its_own(desk: Home) -> None:
    about = [{"key": "gen_ai.evaluation.name", "value": {"stringValue": "Tone"}}]
    about += [{"key": "gen_ai.evaluation.score.label", "value": {"stringValue": "pass"}}]
    event = {"name": EVENT, "timeUnixNano": "1500000000", "attributes": about}
    agent = span({"gen_ai.operation.name": "invoke_agent"}, "agent".ljust(16, "0"), T, events=[event])
    store(desk, *spanned(request(agent, model("a", "1", "2"), model("b", "1", "2", "3", "4", events=[event]))))
    assert outcomes(desk) == [(T, "Tone", 1.0, 3), (T, "Tone", 1.0, None)]


def test_what_nothing_here_holds_is_set_aside(desk: Home) -> None:
    store(desk, *spanned(logs(score("z"))))
    [row] = warehouse.read(desk.quarantine, QUARANTINE, "desk").to_pylist()
    assert "the evaluation 'Relevance' is of span z" in row["error"] and outcomes(desk) == []


def test_explanations_are_redacted(desk: Home) -> None:
    why = {"gen_ai.evaluation.explanation": "ann@x.org was served"}
    store(desk, *spanned(SPANS, logs(score("b", **why))))
    [row] = warehouse.read(desk.outcomes, OUTCOMES, "desk").to_pylist()
    assert (row["comment"], row["source"]) == ("<EMAIL> was served", "otlp")
    assert row["observed_at"] == datetime.fromtimestamp(9, UTC)


def test_files_hold_them_too(read: Read) -> None:
    main, sub, bad = sorted(read([SPANS, logs(*SCORES, score("z"))], "otlp.jsonl"), key=lambda r: isinstance(r, Bad))
    assert isinstance(main, Record) and isinstance(sub, Record) and isinstance(bad, Bad)
    assert "is of span z" in bad.error
    told = [[(o.signal, o.step_index) for o in record.outcomes] for record in (main, sub)]
    assert told == [[("Relevance", 1), ("Resolved", None), ("Relevance", 3)], [("Relevance", 1), ("Resolved", None)]]
    alone, _ = read([SPANS], "otlp.jsonl")
    assert isinstance(alone, Record) and alone.trajectory.id == main.trajectory.id


def test_they_stay_where_prompts_are_not_kept(desk: Home) -> None:
    boundary = Boundary(Layers(system_prompt="drop"), bytes)
    about = [{"key": "gen_ai.evaluation.name", "value": {"stringValue": "Tone"}}]
    about += [{"key": "gen_ai.evaluation.score.label", "value": {"stringValue": "pass"}}]
    call = model("b", "1", "2", events=[{"name": EVENT, "attributes": about}])
    store(
        desk,
        *spanned(request(call), logs(score("b"), score("", **{"gen_ai.response.id": "answer-b"})), boundary=boundary),
    )
    assert outcomes(desk) == [(T, "Relevance", 0.5, 1), (T, "Tone", 1.0, 1)]


def test_they_are_no_part_of_what_was_said() -> None:
    parts = [event.span for event in spanned(SPANS, logs(*SCORES))]
    told, without = trace.of(parts), trace.of(parts[:5])
    assert (told.digest, told.conversations) == (without.digest, without.conversations)
    assert len(told.evaluations) == 5 and not without.evaluations

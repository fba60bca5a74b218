"""Nothing of two thousand secrets and personal data of fifty kinds lies on disk, whatever way they came in."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, posted
from flywheel.capture.audit import audit
from flywheel.capture.feedback import ledger, outcome_files
from flywheel.capture.ingest import ingest
from flywheel.capture.journals.events import SetAside, Spanned
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.otlp import Receiver, quarantined
from flywheel.capture.redaction.redact import redactor
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, TRAJECTORIES, Outcome, Step, ToolCall, Trajectory
from flywheel.settings import Home
from flywheel_tests.capture.importers.test_otlp import request, span
from flywheel_tests.plants import KINDS, Plant, assert_nowhere, plants

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PLANTS = plants(seed=25, n=2000)
Say = Callable[[], str]


def assert_none(home: Home) -> None:
    assert_nowhere(home.root, [plant.value for plant in PLANTS])


class Spoken(Iterator[str]):
    """The sentences that hold the plants, one after the other; `StopIteration` when each has been said."""

    def __init__(self, sayings: list[Plant]) -> None:
        self._texts = iter([plant.text for plant in sayings])
        self.done = False

    def __next__(self) -> str:
        if (text := next(self._texts, None)) is None:
            self.done = True
            return "that is all"
        return text


def spoken(make: Callable[[Say], Any]) -> list[Any]:
    """As many records as it takes to say all plants."""
    said, records = Spoken(PLANTS), []
    while not said.done:
        records.append(make(said.__next__))
    return records


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def call(say: Say) -> dict[str, Any]:
    arguments = json.dumps({"note": say(), "deep": [{"more": say()}], say(): 1})
    return {"id": "c1", "type": "function", "function": {"name": "send", "arguments": arguments}}


def tool(say: Say) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "send", "description": say(), "parameters": {"type": "object"}}}


def chat(say: Say) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": say()},
            {"role": "user", "content": [text_block(say()), text_block(say())]},
            {"role": "assistant", "content": say(), "reasoning_content": say(), "tool_calls": [call(say)]},
            {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"found": [say()], "at": say()})},
            {"role": "assistant", "content": say(), "refusal": None},
        ],
        "tools": [tool(say)],
        "model": "m",
        "customer": say(),
        "about": {"more": say()},
    }


def anthropic(say: Say) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "a", "name": "send", "input": {"note": say()}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [text_block(say())], "is_error": True}
    return {
        "id": "msg-1",
        "model": "claude-x",
        "system": [text_block(say())],
        "tools": [{"name": "send", "description": say(), "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": say()},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": say(), "signature": "S"}, text_block(say()), use],
            },
            {"role": "user", "content": [result, text_block(say())]},
            {"role": "assistant", "content": [text_block(say())]},
        ],
    }


def responses(say: Say) -> dict[str, Any]:
    item = {"type": "function_call", "call_id": "c1", "name": "send", "arguments": json.dumps({"note": say()})}
    return {
        "object": "response",
        "model": "m",
        "instructions": say(),
        "input": [
            {"role": "user", "content": say()},
            item,
            {"type": "function_call_output", "call_id": "c1", "output": say()},
        ],
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": say()}]},
        ],
        "tools": [{"type": "function", "name": "send", "description": say(), "parameters": {}}],
        "metadata": {"more": say()},
    }


def alpaca(say: Say) -> dict[str, Any]:
    return {
        "instruction": say(),
        "input": say(),
        "output": say(),
        "system": say(),
        "history": [[say(), say()]],
        "topic": say(),
    }


def sharegpt(say: Say) -> dict[str, Any]:
    turns = [{"from": "system", "value": say()}, {"from": "human", "value": say()}, {"from": "gpt", "value": say()}]
    return {"id": say(), "conversations": turns, "lang": say()}


def hermes(say: Say) -> dict[str, Any]:
    tools = json.dumps([{"name": "send", "description": say(), "parameters": {"type": "object"}, "required": None}])
    called = json.dumps({"name": "send", "arguments": {"note": say()}})
    result = json.dumps({"tool_call_id": "a", "name": "send", "content": {"note": say()}})
    return {
        "conversations": [
            {"from": "system", "value": f"Call functions listed within <tools> </tools>.\n<tools>\n{tools}\n</tools>"},
            {"from": "human", "value": say()},
            {"from": "gpt", "value": f"<think>\n{say()}\n</think>\n{say()}\n<tool_call>\n{called}\n</tool_call>"},
            {"from": "tool", "value": f"<tool_response>\n{result}\n</tool_response>"},
            {"from": "gpt", "value": f"<think>\n</think>\n{say()}"},
        ],
        "timestamp": "2026-01-05T10:00:00",
        "model": "m",
        "completed": True,
        "note": say(),
    }


def swe_agent(say: Say) -> dict[str, Any]:
    turns = [
        (
            {"role": "assistant", "content": say(), "thought": say(), "action": "ls", "tool_calls": [call(say)]},
            {"role": "tool", "content": [text_block(say())], "tool_call_ids": ["c1"]},
        )
        for _ in range(20)
    ]
    return {
        "trajectory": [{"action": say(), "observation": say(), "response": say(), "thought": say(), "state": {}}],
        "history": [
            {"role": "system", "content": say(), "agent": "main", "message_type": "system_prompt"},
            {"role": "user", "content": [text_block(say())], "agent": "main"},
            *(message for turn in turns for message in turn),
        ],
        "info": {"exit_status": say(), "submission": say(), "swe_agent_version": "1.1.0"},
        "replay_config": json.dumps({"agent": {"model": {"name": "openai/m"}}}),
        "environment": "swe_main",
    }


def tau_bench(say: Say) -> dict[str, Any]:
    return {
        "task_id": 7,
        "trial": 2,
        "reward": 0.0,
        "info": {"task": {"user_id": say(), "instruction": say(), "actions": [], "outputs": [say()]}},
        "traj": [
            {"role": "system", "content": f"# Retail agent policy\n\n{say()}"},
            {"role": "user", "content": say()},
            {"role": "assistant", "content": None, "tool_calls": [call(say)]},
            {"role": "tool", "tool_call_id": "c1", "name": "send", "content": say()},
        ],
    }


def tau2_simulation(say: Say) -> dict[str, Any]:
    return {
        "id": say(),
        "task_id": say(),
        "trial": 0,
        "seed": 5,
        "start_time": "2025-10-05T22:50:18.5",
        "end_time": "2025-10-05T22:51:00",
        "termination_reason": say(),
        "reward_info": {"reward": 0.0},
        "messages": [
            {"role": "assistant", "content": say(), "cost": 0.0},
            {"role": "user", "content": say()},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "name": "send", "arguments": {"a": say()}, "requestor": "assistant"}],
                "raw_data": {"finish_reason": say(), "message": {"reasoning_content": say()}},
            },
            {"role": "tool", "id": "c", "content": say(), "error": True, "requestor": "assistant"},
        ],
    }


def tau2() -> dict[str, Any]:
    simulations = spoken(tau2_simulation)
    return {
        "timestamp": "2025-10-05T22:50:14",
        "info": {
            "git_commit": "d003",
            "user_info": {"llm": "u"},
            "agent_info": {"implementation": "llm_agent", "llm": "xai/grok-3"},
            "environment_info": {"domain_name": "airline", "policy": "Be kind.", "tool_defs": None},
        },
        "tasks": [],
        "simulations": simulations,
    }


def intercode(say: Say) -> dict[str, Any]:
    return {
        "environment": "ic_sql",
        "dataset": "./data/spider/dev_spider.json",
        "task_id": 3,
        "query": say(),
        "turn_history": {
            "actions": [say(), say()],
            "observations": [say(), [[say()]]],
            "rewards": [0, 1.0],
            "valid_action": [True, True],
        },
        "summary": {"max_reward": 1.0, "max_reward_idx": 1, "turns_taken": 2, "turns_max": 3},
        "hardness": say(),
    }


def claude_code() -> list[Any]:
    said, lines = Spoken(PLANTS), []

    def line(role: str, content: Any, **more: Any) -> None:
        parent = lines[-1]["uuid"] if lines else None
        about = {"type": role, "uuid": f"u{len(lines)}", "parentUuid": parent, "sessionId": "s", "isSidechain": False}
        message = {"role": role, "content": content} | (
            {"id": f"m{len(lines)}", "model": "x"} if role != "user" else {}
        )
        lines.append(about | {"message": message, "cwd": next(said), "gitBranch": next(said)} | more)

    while not said.done:
        n = len(lines)
        line("user", next(said))
        line("assistant", [{"type": "thinking", "thinking": next(said), "signature": "S"}, text_block(next(said))])
        line("assistant", [{"type": "tool_use", "id": f"t{n}", "name": "Read", "input": {"path": next(said)}}])
        result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": [text_block(next(said))]}
        line("user", [result], toolUseResult={"stdout": next(said)})
    return lines


def langfuse(say: Say, n: int) -> dict[str, Any]:
    trace = f"t{n}"
    generation = {
        "id": f"g{n}",
        "traceId": trace,
        "projectId": "p",
        "type": "GENERATION",
        "startTime": "2026-01-01T00:00:01.000Z",
        "endTime": "2026-01-01T00:00:02.000Z",
        "input": json.dumps([{"role": "system", "content": say()}, {"role": "user", "content": say()}]),
        "output": json.dumps({"role": "assistant", "content": say(), "tool_calls": [call(say)]}),
        "model": "m-1",
        "metadata": json.dumps({"more": say()}),
        "statusMessage": say(),
    }
    scores = [{"name": "quality", "value": 1, "comment": say(), "dataType": "NUMERIC"}]
    about = {"id": trace, "projectId": "p", "name": say(), "userId": say(), "sessionId": say(), "tags": [say()]}
    return {"trace": {**about, "scores": scores, "metadata": {"more": say()}}, "observations": [generation]}


def attributes(say: Say) -> dict[str, Any]:
    asked = [{"role": "user", "parts": [{"type": "text", "content": say()}]}]
    answered = [{"role": "assistant", "parts": [{"type": "text", "content": say()}], "finish_reason": "stop"}]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": say()}]),
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps(answered),
        "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "f", "description": say()}]),
        "user.email": say(),
        "tag.tags": [say(), say()],
    }


def otlp() -> dict[str, Any]:
    found = spoken(attributes)
    return request(*(span(told, id=f"{n:016x}", trace=f"{n + 1:032x}") for n, told in enumerate(found)))


def langfuses() -> list[Any]:
    numbers = iter(range(10**6))
    return spoken(lambda say: langfuse(say, next(numbers)))


# Each format: the name of a file, and what it holds (a list under `.jsonl` is its lines).
FILES: dict[str, tuple[str, Callable[[], Any]]] = {
    "openai-chat": ("chats.jsonl", lambda: spoken(chat)),
    "anthropic-messages": ("chats.jsonl", lambda: spoken(anthropic)),
    "openai-responses": ("calls.jsonl", lambda: spoken(responses)),
    "alpaca": ("rows.json", lambda: spoken(alpaca)),
    "sharegpt": ("rows.json", lambda: spoken(sharegpt)),
    "hermes": ("trajectory_samples.jsonl", lambda: spoken(hermes)),
    "swe-agent": ("run.traj", lambda: spoken(swe_agent)),
    "tau-bench": ("gpt-4o-retail.json", lambda: spoken(tau_bench)),
    "tau2": ("airline.json", tau2),
    "intercode": ("gpt-4.json", lambda: {str(n): episode for n, episode in enumerate(spoken(intercode))}),
    "claude-code": ("session.jsonl", claude_code),
    "langfuse": ("traces.jsonl", langfuses),
    "otlp": ("spans.json", otlp),
}


def written(format: str, folder: Path) -> list[Path]:
    """A folder with a file of the format that says all plants; of formats that have one run a file, several."""
    folder.mkdir(exist_ok=True)
    name, make = FILES[format]
    value = make()
    if name.endswith(".traj"):
        for n, one in enumerate(value):
            (folder / f"{n}-{name}").write_text(json.dumps(one))
    else:
        lines = [json.dumps(v) for v in value] if name.endswith(".jsonl") else [json.dumps(value)]
        (folder / name).write_text("\n".join(lines))
    return [folder]


def test_plants_are_many_and_of_many_kinds() -> None:
    assert len({plant.value for plant in PLANTS}) == 2000
    assert len(KINDS) >= 25


@pytest.mark.parametrize("format", FILES)
def test_no_importer_stores_one(desk: Home, tmp_path: Path, format: str) -> None:
    # Folders are named after people, too.
    report = ingest(desk, written(format, tmp_path / "ann.lee@example.org"), "desk", format, now=NOON).total
    assert report.added > 0 == report.quarantined
    assert sum(report.redactions.values()) > 500, report
    assert_nowhere(desk.root, [plant.value for plant in PLANTS] + ["ann.lee@example.org"])
    rows = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    assert sum(sum(json.loads(row["metadata"]).get("redactions", {}).values()) for row in rows) > 500


def test_no_quarantined_line_stores_one(desk: Home, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    broken = [
        *('{"messages": [{"role": "user", "content": ' + json.dumps(plant.text) for plant in PLANTS),
        *('{"messages": ' + json.dumps(f"{plant.text} {plant.text}") + "}" for plant in PLANTS),
        *(json.dumps({"messages": [{"role": plant.text}]}) for plant in PLANTS),
        *("{" + plant.text.replace("\n", "\\n") for plant in PLANTS),
    ]
    path.write_text("\n".join(broken))
    report = ingest(desk, [path], "desk", "openai-chat", now=NOON).total
    assert report.quarantined == len(broken)
    assert_none(desk)


def test_an_excerpt_that_ends_within_a_secret_has_no_part_of_it(desk: Home, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    lead = '{"messages": [{"role": "user", "content": "' + "word " * 26
    longer = [plant for plant in PLANTS if len(plant.value) > 30 and "\n" not in plant.value]
    path.write_text("\n".join(lead + plant.text for plant in longer))
    assert ingest(desk, [path], "desk", "openai-chat", now=NOON).total.quarantined == len(longer)
    # Of what is random in it: vendors' prefixes are no secret.
    assert_nowhere(desk.root, [plant.value[-(len(plant.value) - 14) :][:10] for plant in longer])


def test_no_recorder_stores_one(desk: Home) -> None:
    said = Spoken(PLANTS)
    tools = [{"name": "send", "description": plant.text} for plant in PLANTS[:20]]
    recorder = Recorder(desk, "desk", agent=next(said), agent_version=next(said), model=next(said), tools=tools)
    with recorder.batch():
        while not said.done:
            id, task = next(said), next(said)
            metadata = {next(said): next(said), "list": [next(said)]}
            with recorder.trajectory(id=id, task_id=task, task_group=next(said), metadata=metadata) as t:
                t.step(role="system", content=next(said))
                t.step(role="user", content=next(said), metadata=json.dumps({"name": next(said)}))
                arguments = json.dumps({"to": next(said), "n": 1})
                calls = [ToolCall(id="1", name="send", arguments=arguments), ToolCall(id="2", name="f", arguments="{}")]
                t.step(role="assistant", content=next(said), reasoning=next(said), tool_calls=calls)
                t.step(role="tool", content=json.dumps([next(said)]), tool_call_id="1", tool_name=next(said))
                t.outcome("resolved", 1.0, source=next(said), comment=next(said), checker_version=next(said))
                t.end("failed", next(said))
            recorder.outcome(id, next(said), 1.0, comment=next(said))
    for plant in PLANTS[:100]:
        with pytest.raises(ValueError), recorder.trajectory(task_id="1"):
            raise ValueError(plant.text)
    trajectories = spoken(whole)
    outcomes = [told(trajectories[0].id, plant) for plant in PLANTS]
    recorder.record(trajectories, outcomes)
    recorder.close()
    assert_none(desk)
    settled = settle(desk, "desk", datetime.now(UTC))
    assert settled.trajectories > 100
    assert_none(desk)
    # What was named alike is named alike: every outcome still finds its trajectory.
    ids = set(warehouse.read(desk.captures, TRAJECTORIES, "desk")["id"].to_pylist())
    assert set(warehouse.read(desk.outcomes, OUTCOMES, "desk")["trajectory_id"].to_pylist()) <= ids


def whole(say: Say) -> Trajectory:
    return Trajectory(
        id=say(),
        workspace="desk",
        task_id=say(),
        task_group=say(),
        task_type=say(),
        agent=say(),
        model=say(),
        provider=say(),
        tools=json.dumps([{"name": say()}]),
        end_state="completed",
        arrived_at=datetime.now(UTC),
        source=say(),
        metadata=json.dumps({"by": say()}),
        steps=(Step(role="user", content=say()), Step(role="assistant", content=say(), reasoning=say())),
    )


def told(id: str, plant: Plant) -> Outcome:
    now = datetime.now(UTC)
    return Outcome(
        workspace="desk",
        trajectory_id=id,
        signal="resolved",
        value=1.0,
        source=plant.text,
        observed_at=now,
        arrived_at=now,
        comment=plant.text,
    )


def test_the_ledger_stores_none(desk: Home, tmp_path: Path) -> None:
    recorder = Recorder(desk, "desk", agent="bot", clock=lambda: NOON)
    with recorder.trajectory(task_id="1", id="t-1") as t:
        t.step(role="user", content="Hi")
    recorder.close()
    settle(desk, "desk", NOON)
    for plant in PLANTS[::53]:  # of each kind
        ledger.tell(desk, "desk", "t-1", plant.text, 1.0, source=plant.text, comment=plant.text)
    for name, rows in (
        ("good.csv", [["t-1", "resolved", "1", plant.text, plant.text] for plant in PLANTS]),
        ("bad.csv", [["t-1", "resolved", f"none: {plant.text}", "person", plant.text] for plant in PLANTS]),
    ):
        path = tmp_path / name
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["trajectory_id", "signal", "value", "source", "comment"], *rows])
        imported = outcome_files.load(desk, path, "desk", now=NOON)
        assert imported.added + imported.quarantined == imported.rows == len(PLANTS)
    assert_none(desk)


def test_what_is_posted_and_exchanged_and_traced_stores_none(desk: Home) -> None:
    records = [json.dumps(record).encode() for record in spoken(post)]
    read = posted.read(desk, "desk", enumerate(records), posted.Limits(depth=100, field=10**6), NOON)
    assert not read.quarantined
    bad = posted.read(
        desk, "desk", enumerate(record[:-1] for record in records), posted.Limits(depth=100, field=10**6), NOON
    )
    receiver = Receiver(lambda: redactor(desk, "desk"))
    taken = receiver.take("traces", json.dumps(otlp()).encode(), as_json=True)
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        writer.put([*read.accepted, *(Spanned(at=NOON, span=one, agent="a") for one in taken.spans)]).result(60)
        for exchange in spoken(exchanged):
            threads.put(exchange).result(60)
    refused = receiver.take("traces", json.dumps(request(*spoken(unnamed))).encode(), as_json=True).refused
    assert len(refused) > 100
    aside = [*bad.quarantined, *quarantined("desk", "traces", refused, NOON)]
    with Writer(desk, "desk") as writer:
        writer.put([*map(SetAside, aside)]).result(60)
    assert_none(desk)
    assert settle(desk, "desk", NOON + timedelta(days=1)).trajectories > 300
    assert_none(desk)


def post(say: Say) -> dict[str, Any]:
    steps = [{"role": "user", "content": say()}, {"role": "assistant", "content": say(), "reasoning": say()}]
    about = {"id": say(), "task_id": say(), "agent": say(), "model": say(), "source": say()}
    return {**about, "steps": steps, "metadata": json.dumps({"x": say()}), "tools": json.dumps([{"d": say()}])}


def exchanged(say: Say) -> Exchange:
    asked = [{"role": "system", "content": say()}, {"role": "user", "content": say(), "name": say()}]
    answer = {"role": "assistant", "content": say(), "reasoning_content": say(), "tool_calls": [call(say)]}
    return Exchange(
        id=uuid.uuid4().hex,
        thread=say(),
        named=True,
        messages=asked,
        answers=[[answer], [{"role": "assistant", "content": say()}]],
        details=[{"finish_reason": say(), "usage": {"note": say()}}, {}],
        tools=[tool(say)],
        model=say(),
        provider=say(),
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=1),
        error=say(),
        about={"task_id": say(), "parameters": {"user": say()}},
    )


def unnamed(say: Say) -> Any:
    return span(attributes(say), id="", trace="", name=say())


def test_the_audit_log_stores_none(desk: Home) -> None:
    for plant in PLANTS:
        audit(desk, workspace="desk", action="GET /", who="ann", target=plant.text)
    assert_none(desk)

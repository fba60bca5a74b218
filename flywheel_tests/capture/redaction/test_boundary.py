"""Which layers of a prompt are kept is declared by source, and told in the trajectory."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, workspaces
from flywheel.capture.gateway import interface
from flywheel.capture.ingest import ingest
from flywheel.capture.redaction import boundary
from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction.boundary import Boundary
from flywheel.capture.redaction.policy import Layers
from flywheel.capture.settling.settle import settle
from flywheel.schema import TRAJECTORIES, Step, Trajectory, trajectory_of
from flywheel.settings import Home
from flywheel_tests.capture.redaction.test_planted import FILES, PLANTS, written

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TOOLS = '[{"type":"function","function":{"name":"find"}}]'
TRAJECTORY = Trajectory(
    id="t",
    workspace="desk",
    task_id="1",
    task_group="1",
    task_type="desk",
    agent="a",
    tools=TOOLS,
    end_state="completed",
    arrived_at=NOW,
    source="gateway",
    steps=(
        Step(role="system", content="Be kind."),
        Step(role="user", content="<memory>Ann likes tea</memory>What <memory>and cake</memory>do I like?"),
        Step(role="tool", content="A page.", tool_name="retrieve", tool_call_id="1"),
        Step(role="user", content="Known facts.", metadata='{"name":"rag"}'),
        Step(role="assistant", content="Tea.", metadata='{"prompt_token_ids":[1],"token_ids":[2]}'),
    ),
)


def kept(home: Home, policy: str, source: str = "gateway") -> Trajectory:
    policies.save(home, "desk", policy)
    once = boundary.of(home, "desk", source).trajectory(TRAJECTORY)
    assert boundary.of(home, "desk", source).trajectory(once) == once
    return once


def said(trajectory: Trajectory) -> list[str | None]:
    return [step.content for step in trajectory.steps]


def test_all_is_kept_where_nothing_is_declared(desk: Home) -> None:
    assert kept(desk, "") == TRAJECTORY
    assert kept(desk, "[boundary.otlp]\nsystem_prompt = 'drop'") == TRAJECTORY


def test_layers_are_dropped_and_told(desk: Home) -> None:
    found = kept(
        desk,
        """
        [boundary.gateway]
        system_prompt = "drop"
        tool_schemas = "drop"
        injected_memory = { how = "drop", between = ["<memory>", "</memory>"] }
        retrieved_context = [{ how = "drop", role = "tool", name = "retrieve" }, { how = "drop", name = "rag" }]
        """,
    )
    assert said(found) == [
        "<SYSTEM_PROMPT>",
        "<memory><INJECTED_MEMORY></memory>What <memory><INJECTED_MEMORY></memory>do I like?",
        "<RETRIEVED_CONTEXT>",
        "<RETRIEVED_CONTEXT>",
        "Tea.",
    ]
    assert found.tools == "[]"
    assert json.loads(found.metadata)["boundary"] == {
        "system_prompt": {"how": "drop", "count": 1},
        "tool_schemas": {"how": "drop", "count": 1},
        "injected_memory": {"how": "drop", "count": 2},
        "retrieved_context": {"how": "drop", "count": 2},
    }
    # What the ids of the prompt's tokens spell out is not kept either.
    assert json.loads(found.steps[-1].metadata) == {"token_ids": [2], "withheld": ["prompt_token_ids"]}


def test_a_digest_is_the_same_for_the_same_text_and_says_nothing_of_it(desk: Home) -> None:
    found = kept(desk, "[boundary.'*']\nsystem_prompt = 'digest'\ntool_schemas = 'digest'")
    assert re.fullmatch("<SYSTEM_PROMPT:[0-9a-f]{12}>", found.steps[0].content or "")
    assert found.steps[1:4] == TRAJECTORY.steps[1:4]
    about = json.loads(found.metadata)["boundary"]
    assert about["tool_schemas"] == {"how": "digest", "count": 1, "digest": about["tool_schemas"]["digest"]}
    assert boundary.of(desk, "desk", "recorder").trajectory(TRAJECTORY).steps[0] == found.steps[0]


def test_a_source_says_for_itself_what_it_says_otherwise(desk: Home) -> None:
    policy = "[boundary.'*']\nsystem_prompt = 'drop'\ntool_schemas = 'drop'\n[boundary.gateway]\nsystem_prompt = 'keep'"
    found = kept(desk, policy)
    assert (found.steps[0], found.tools) == (TRAJECTORY.steps[0], "[]")


SYSTEM = [
    {"role": "system", "content": "Be kind.", "refusal": "Be kind."},
    {"role": "developer", "content": [{"type": "text", "text": "Be kind.", "cache": "Be kind."}]},
    {"role": "system", "content": None, "audio": "Be kind."},
    {"role": "System", "content": "Be kind."},
    {"role": "system", "content": {"odd": "Be kind."}},
    {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "Be kind."}}]},
]


@pytest.mark.parametrize("message", SYSTEM, ids=str)
def test_of_a_system_prompt_nothing_is_kept_whatever_its_form(message: dict[str, Any]) -> None:
    for given in ([message], interface.readable([message])):
        left = Boundary(Layers(system_prompt="drop"), bytes)
        [kept] = left.messages(given)
        assert "Be kind." not in str(kept)
        assert left.messages([kept]) == [kept]


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ("a <m>b</m> c", "a <m><INJECTED_MEMORY></m> c"),
        ("a <m>b <m>c</m> d</m> e", "a <m><INJECTED_MEMORY></m> e"),
        ("a <m>b is cut off", "a <m><INJECTED_MEMORY>"),
        ("a </m> b", "a </m> b"),
        ("a <m></m> b", "a <m></m> b"),
    ],
)
def test_delimiters_may_nest_and_break_off(desk: Home, content: str, left: str) -> None:
    policies.save(desk, "desk", "[boundary.'*']\ninjected_memory = { how = 'drop', between = ['<m>', '</m>'] }")
    step = Step(role="user", content=content)
    assert boundary.of(desk, "desk", "x").step(step).content == left


def test_the_recorder_and_the_importers_keep_to_it(desk: Home, tmp_path: Path) -> None:
    policy = "boundary.recorder = { system_prompt = 'drop', tool_schemas = 'drop' }"
    policies.save(desk, "desk", f"{policy}\nboundary.openai-chat.system_prompt = 'drop'")
    recorder = Recorder(desk, "desk", agent="bot", tools=[{"name": "SECRET"}], clock=lambda: NOW)
    with recorder.trajectory(task_id="1") as t:
        t.step(role="system", content="SECRET rules for ann@x.org")
        t.step(role="user", content="I am ann@x.org")
    recorder.record([msgspec.structs.replace(TRAJECTORY, source="recorder")])
    recorder.close()
    chat = {"messages": [{"role": "system", "content": "SECRET"}, {"role": "assistant", "content": "Hi."}]}
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(chat))
    settle(desk, "desk", NOW)
    ingest(desk, [path], "desk", now=NOW)
    rows = [trajectory_of(row) for row in warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()]
    assert [row.steps[0].content for row in rows] == ["<SYSTEM_PROMPT>"] * 3
    assert "SECRET" not in repr(rows)
    told = next(json.loads(row.metadata) for row in rows if row.agent == "bot")
    assert told == {
        "boundary": {
            "system_prompt": {"how": "drop", "count": 1},
            "tool_schemas": {"how": "drop", "count": 1},
        },
        "redactions": {"EMAIL": 1},
    }


@pytest.mark.parametrize("format", FILES)
def test_what_is_dropped_is_nowhere_else_in_what_an_importer_makes(home: Home, tmp_path: Path, format: str) -> None:
    """Not in metadata, not in another step."""
    off = "default = 'off'\n"
    rows: dict[str, list[Trajectory]] = {}
    for workspace, policy in (
        ("all", off),
        ("less", f"{off}boundary.{format} = {{ system_prompt = 'drop', tool_schemas = 'drop' }}"),
    ):
        workspaces.create(home, workspace)
        policies.save(home, workspace, policy)
        ingest(home, written(format, tmp_path), workspace, format, now=NOW)
        found = warehouse.read(home.captures, TRAJECTORIES, workspace).to_pylist()
        rows[workspace] = [trajectory_of(row) for row in found]
    layers = "\n".join(
        text for row in rows["all"] for text in (row.tools, *(s.content or "" for s in row.steps if s.role == "system"))
    )
    less = "\n".join(
        text
        for row in rows["less"]
        for text in (
            row.metadata,
            row.tools,
            *(f"{s.content}{s.reasoning}{s.metadata}{s.tool_calls}" for s in row.steps),
        )
    )
    dropped = [plant.value for plant in PLANTS if "\n" not in plant.value and plant.value in layers]
    assert not [value for value in dropped if value in less]
    assert format in ("intercode", "claude-code", "tau2") or len(dropped) > 10

"""One record as the row of each format."""

import json

import msgspec
import pytest

from flywheel.schema import FlywheelError, Step, ToolCall, Trajectory
from flywheel.views.formats import FORMATS, format_of
from flywheel.views.graded import Graded, Unfit
from flywheel_tests.views.records import ARRIVED

FUNCTION = {"name": "weather", "description": "The sky.", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
RECORD = Trajectory(
    id="t1",
    workspace="desk",
    task_id="k1",
    task_group="g1",
    task_type="sky",
    agent="scout",
    model="m",
    tools=json.dumps([TOOL]),
    end_state="completed",
    arrived_at=ARRIVED,
    source="x.jsonl",
    metadata='{"toolsets_used":["sky"]}',
    steps=(
        Step(role="system", content="Be brief."),
        Step(role="user", content="Oslo and Bergen?"),
        Step(
            role="assistant",
            content="I look.",
            reasoning="Both at once.",
            tool_calls=(
                ToolCall(id="a", name="weather", arguments='{"city": "Oslo"}'),
                ToolCall(id="b", name="weather", arguments='{"city":"Bergen"}'),
            ),
        ),
        Step(role="tool", content='{"error": "gone"}', tool_call_id="b", tool_name="weather", is_error=True),
        Step(role="tool", content="sun", tool_call_id="a", tool_name="weather"),
        Step(role="assistant", content="Sun in Oslo.", metadata='{"weight":0}'),
        Step(role="user", content="Thanks."),
    ),
)
GIVEN = Graded(trajectory=RECORD, reward=0.5, success=False)
ABOUT = {
    "id": "t1",
    "task_id": "k1",
    "task_group": "g1",
    "task_type": "sky",
    "agent": "scout",
    "agent_version": "",
    "model": "m",
    "provider": "",
    "reward": 0.5,
    "success": False,
}


def rows(name: str, given: Graded = GIVEN) -> list[dict]:
    return FORMATS[name].rows(given, 7)


def called(id: str, arguments: object) -> dict:
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Oslo and Bergen?"},
    {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "Both at once.",
        "tool_calls": [called("a", {"city": "Oslo"}), called("b", {"city": "Bergen"})],
    },
    {"role": "tool", "content": '{"error": "gone"}', "tool_call_id": "b", "name": "weather"},
    {"role": "tool", "content": "sun", "tool_call_id": "a", "name": "weather"},
    {"role": "assistant", "content": "Sun in Oslo."},
    {"role": "user", "content": "Thanks."},
]


def test_trl_sft():
    assert rows("trl-sft") == [{"messages": CHAT, "tools": json.dumps([TOOL])} | ABOUT]


def test_trl_kto_has_a_row_for_each_step_of_the_assistant():
    assert rows("trl-kto") == [
        {
            "prompt": CHAT[:index],
            "completion": [CHAT[index]],
            "label": False,
            "tools": json.dumps([TOOL]),
            "id": "t1",
            "step_index": index,
        }
        for index in (2, 5)
    ]
    with pytest.raises(Unfit, match="no verdict"):
        rows("trl-kto", Graded(trajectory=RECORD))


def test_trl_prompts():
    task = {"task_id": "k1", "task_group": "g1", "task_type": "sky", "id": "t1"}
    assert rows("trl-prompts") == [{"prompt": CHAT[:2], "tools": json.dumps([TOOL])} | task]


def test_openai_ends_on_the_assistant_and_keeps_arguments_as_they_were_written():
    assert rows("openai") == [
        {
            "messages": [
                *CHAT[:2],
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [called("a", '{"city": "Oslo"}'), called("b", '{"city":"Bergen"}')],
                },
                {"role": "tool", "content": '{"error": "gone"}', "tool_call_id": "b"},
                {"role": "tool", "content": "sun", "tool_call_id": "a"},
                {"role": "assistant", "content": "Sun in Oslo.", "weight": 0},
            ],
            "tools": [TOOL],
            "parallel_tool_calls": True,
        }
    ]
    bare = msgspec.structs.replace(RECORD, tools="[]", steps=(RECORD.steps[1], RECORD.steps[5]))
    [row] = rows("openai", Graded(trajectory=bare))
    assert list(row) == ["messages"]


def test_axolotl():
    messages = [*CHAT[:5], CHAT[5] | {"training": False}, CHAT[6]]
    assert rows("axolotl") == [{"messages": messages, "tools": [TOOL]} | ABOUT]


def test_sharegpt():
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Bergen")]
    assert rows("sharegpt") == [
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Oslo and Bergen?"},
                {"from": "gpt", "value": "I look.", "reasoning_content": "Both at once."},
                {"from": "function_call", "value": json.dumps(calls)},
                {"from": "observation", "value": '{"error": "gone"}'},
                {"from": "observation", "value": "sun"},
                {"from": "gpt", "value": "Sun in Oslo."},
                {"from": "human", "value": "Thanks."},
            ],
            "tools": json.dumps([TOOL]),
        }
        | ABOUT
    ]


def test_hermes():
    [row] = rows("hermes")
    system, human, *turns = row.pop("conversations")
    assert system["from"] == "system" and system["value"].startswith("Be brief.\n\n")
    assert f"<tools>\n{json.dumps([FUNCTION | {'required': None}])}\n</tools>" in system["value"]
    assert human == {"from": "human", "value": "Oslo and Bergen?"}
    assert turns == [
        {
            "from": "gpt",
            "value": "<think>\nBoth at once.\n</think>\nI look.\n"
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call>',
        },
        {
            # In the order of the calls: readers go by it.
            "from": "tool",
            "value": '<tool_response>\n{"tool_call_id": "a", "name": "weather", "content": "sun"}\n</tool_response>\n'
            '<tool_response>\n{"tool_call_id": "b", "name": "weather", "content": {"error": "gone"}}\n</tool_response>',
        },
        {"from": "gpt", "value": "<think>\n</think>\nSun in Oslo."},
        {"from": "human", "value": "Thanks."},
    ]
    assert row == {
        "prompt_index": 7,
        "metadata": {
            "batch_num": 0,
            "timestamp": "2026-01-05T12:00:00+00:00",
            "model": "m",
            "trajectory_id": "t1",
            "task_id": "k1",
            "reward": 0.5,
            "success": False,
        },
        "completed": True,
        "partial": False,
        "api_calls": 2,
        "toolsets_used": ["sky"],
        "tool_stats": {"weather": {"count": 2, "success": 1, "failure": 1}},
        "tool_error_counts": {"weather": 1},
    }


def test_steps_are_the_record():
    found = rows("steps")
    assert [(row["trajectory_id"], row["step_index"], row["content"]) for row in found] == [
        ("t1", index, step.content) for index, step in enumerate(RECORD.steps)
    ]
    assert msgspec.convert({k: v for k, v in found[2].items() if k in Step.__struct_fields__}, Step) == RECORD.steps[2]


def test_openai_takes_no_call_without_its_result():
    unanswered = msgspec.structs.replace(RECORD, steps=(*RECORD.steps[:4], *RECORD.steps[5:]))
    twice = msgspec.structs.replace(RECORD, steps=(*RECORD.steps[:5], *RECORD.steps[4:]))
    for of in (unanswered, twice):
        with pytest.raises(Unfit, match="a call without its result, or a result without its call"):
            rows("openai", Graded(trajectory=of))
    # What it called last need not be answered.
    assert rows("openai", Graded(trajectory=msgspec.structs.replace(RECORD, steps=RECORD.steps[:3])))


@pytest.mark.parametrize("name", ["trl-sft", "openai", "axolotl", "hermes"])
def test_an_assistant_that_says_nothing_has_no_row(name: str):
    silent = msgspec.structs.replace(RECORD, steps=RECORD.steps[:2])
    with pytest.raises(Unfit, match="the assistant says nothing"):
        rows(name, Graded(trajectory=silent))


def test_formats_by_name():
    assert format_of("openai") is FORMATS["openai"]
    with pytest.raises(FlywheelError, match="there are: trl-sft, trl-kto"):
        format_of("csv")

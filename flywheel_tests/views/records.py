"""Records for round trips: any conversation an agent may have had, and the ways out and in again."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Record
from flywheel.schema import Step, ToolCall, Trajectory
from flywheel.views.graded import Format, Graded

ARRIVED = datetime(2026, 1, 5, 12, tzinfo=UTC)
AGAIN = datetime(2026, 2, 6, 12, tzinfo=UTC)
SHARED = [name for name in Trajectory.__struct_fields__ if name not in ("steps", "workspace")]
OF_CALLS = ("id", "name", "arguments")
# What every reading makes anew, and no reading could carry.
OF_READING = ("record", "record_sha256", "source_id")

words = st.text(st.sampled_from("abc é\n{\"}:,1'"), max_size=8)
said = st.none() | words
names = st.sampled_from(["look", "push", "say it"])
arguments = st.sampled_from(["{}", '{"box": "b1"}', '{"n":1.5,"deep":{"x":[null]}}', "{broken", "[1]", '{"n": NaN}'])
about = st.sampled_from(["{}", '{"weight":0}', '{"weight":1}', '{"finish_reason":"stop","token_ids":[1,2]}'])
counts = st.none() | st.integers(0, 9)
times = st.sampled_from([None, ARRIVED])


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Step]:
    """A user's step, or an assistant's with the results of its calls."""
    if draw(st.booleans()):
        return [Step(role="user", content=draw(said), at=draw(times), metadata=draw(about))]
    calls = tuple(
        ToolCall(id=draw(st.sampled_from([f"{number}-{n}", f"call_{number}{n}"])), name=draw(names), arguments=a)
        for n, a in enumerate(draw(st.lists(arguments, max_size=3)))
    )
    own = Step(
        role="assistant",
        content=draw(said),
        reasoning=draw(said),
        tool_calls=calls,
        prompt_tokens=draw(counts),
        completion_tokens=draw(counts),
        at=draw(times),
        metadata=draw(about),
    )
    answered = draw(st.sampled_from([calls, calls[::-1], ()]))
    return [
        own,
        *(
            Step(
                role="tool",
                content=draw(said),
                tool_call_id=call.id,
                tool_name=call.name,
                is_error=draw(st.sampled_from([None, True, False])),
                metadata=draw(about),
            )
            for call in answered
        ),
    ]


@st.composite
def graded(draw: st.DrawFn) -> Graded:
    """A trajectory of an assistant that speaks at least once, and its verdict."""
    steps = [Step(role="system", content=draw(words))] if draw(st.integers(0, 3)) else []
    if draw(st.integers(0, 3)) == 0:
        steps.append(Step(role="tool", content="late", tool_call_id="gone", tool_name="lost"))
    unnamed = draw(st.integers(0, 3)) == 0
    for number in range(draw(st.integers(0, 4))):
        steps += draw(turns(number))
    if unnamed:
        steps = [msgspec.structs.replace(step, tool_call_id=None) for step in steps]
    steps.append(Step(role="assistant", content=draw(words)))
    steps += [Step(role="user", content="Thanks.")] * draw(st.integers(0, 1))
    look = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
    tools = draw(st.sampled_from([[], [look], [look, {"name": "push"}]]))
    trajectory = Trajectory(
        id="t1",
        workspace="desk",
        task_id=draw(st.sampled_from(["k1", "k2"])),
        task_group=draw(st.sampled_from(["k1", "g"])),
        task_type=draw(st.sampled_from(["chat", "desk"])),
        agent="scripted",
        agent_version=draw(st.sampled_from(["", "2"])),
        model=draw(st.sampled_from(["", "m"])),
        provider=draw(st.sampled_from(["", "p"])),
        tools=json.dumps(tools),
        end_state=draw(st.sampled_from(["completed", "partial", "failed"])),
        started_at=draw(times),
        arrived_at=ARRIVED,
        source="desk.jsonl",
        source_line=3,
        metadata=draw(about),
        steps=tuple(steps),
    )
    return Graded(
        trajectory=trajectory, reward=draw(st.sampled_from([None, 0.5])), success=draw(st.sampled_from([None, True]))
    )


# All that some format loses.
ODD = Graded(
    trajectory=Trajectory(
        id="t1",
        workspace="desk",
        task_id="k1",
        task_group="g",
        task_type="desk",
        agent="scripted",
        agent_version="2",
        model="m",
        provider="p",
        tools='[{"name":"push"}]',
        end_state="failed",
        started_at=ARRIVED,
        arrived_at=ARRIVED,
        source="desk.jsonl",
        source_line=3,
        metadata='{"lang":"en"}',
        steps=(
            Step(role="system", content="You help."),
            Step(role="user", at=ARRIVED),
            Step(role="tool", content="late", tool_call_id="gone", tool_name="lost"),
            Step(
                role="assistant",
                content="",
                reasoning="",
                tool_calls=(ToolCall(id="x", name="look", arguments='{"box": "b1"}'),),
                prompt_tokens=3,
                completion_tokens=2,
                metadata='{"token_ids":[1,2]}',
            ),
            Step(role="tool", content="sun", tool_name="look", is_error=True),
            Step(role="assistant", reasoning="So.", tool_calls=(ToolCall(id="y", name="look", arguments="{}"),)),
        ),
    ),
    reward=0.5,
    success=True,
)
# It speaks and calls at once, has no system prompt, and does not end on the assistant.
LAST = ODD.trajectory.steps[-1]
ODDLY_TOLD = msgspec.structs.replace(
    ODD,
    trajectory=msgspec.structs.replace(
        ODD.trajectory,
        steps=(
            Step(role="user", content="Open it."),
            msgspec.structs.replace(LAST, content="I look."),
            Step(role="user", content="Thanks."),
        ),
    ),
)

# As the first, but that results stand behind their calls.
ORDERLY = msgspec.structs.replace(
    ODD,
    trajectory=msgspec.structs.replace(
        ODD.trajectory,
        steps=tuple(
            msgspec.structs.replace(step, tool_call_id="x") if step.role == "tool" else step
            for step in ODD.trajectory.steps
            if step.content != "late"
        ),
    ),
)


def again(of: Format, given: Graded, path: Path, at: datetime = AGAIN) -> Graded:
    """A record as it comes back when the rows of a format are read."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in of.rows(given, 0)))
    [record] = importer_of(path, of.read_by or "auto").read(path, "desk", at)
    assert isinstance(record, Record), record
    heard = {outcome.signal: outcome.value for outcome in record.outcomes}
    success = heard.get("success")
    return Graded(
        trajectory=record.trajectory,
        reward=heard.get("reward"),
        success=None if success is None else bool(success),
    )


def differences(before: Graded, after: Graded) -> set[str]:
    """The fields in which two records differ; where they have other steps, nothing is said of these."""
    a, b = before.trajectory, after.trajectory
    found = {name for name in SHARED if _plain(name, getattr(a, name)) != _plain(name, getattr(b, name))}
    if (before.reward, before.success) != (after.reward, after.success):
        found.add("verdict")
    if [(s.role, len(s.tool_calls)) for s in a.steps] != [(s.role, len(s.tool_calls)) for s in b.steps]:
        return found | {"steps"}
    for left, right in zip(a.steps, b.steps, strict=True):
        own = [name for name in Step.__struct_fields__ if name != "tool_calls"]
        found |= {f"steps.{n}" for n in own if _plain(n, getattr(left, n)) != _plain(n, getattr(right, n))}
        for one, other in zip(left.tool_calls, right.tool_calls, strict=True):
            found |= {f"steps.tool_calls.{n}" for n in OF_CALLS if getattr(one, n) != getattr(other, n)}
    return found


def _plain(name: str, value: object) -> object:
    """JSON texts are equal when they say the same."""
    if name == "tools":
        return json.loads(str(value))
    if name == "metadata":
        return {k: v for k, v in json.loads(str(value)).items() if k not in OF_READING}
    return value

"""The vocabulary: names made of content, and a lossless way to Arrow and back."""

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import artifacts
from flywheel.schema import (
    OUTCOMES,
    QUARANTINE,
    TRAJECTORIES,
    Outcome,
    Quarantined,
    Step,
    ToolCall,
    Trajectory,
    arrival_day,
    canonical_json,
    content_digest,
    outcomes_table,
    quarantine_table,
    stable_id,
    trajectories_table,
    trajectory_of,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
maybe_texts, maybe_counts = st.none() | texts, st.none() | st.integers(0, 2**62)
calls = st.builds(ToolCall, id=texts, name=texts, arguments=texts)
steps = st.builds(
    Step,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=maybe_texts,
    reasoning=maybe_texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    tool_call_id=maybe_texts,
    tool_name=maybe_texts,
    is_error=st.none() | st.booleans(),
    prompt_tokens=maybe_counts,
    completion_tokens=maybe_counts,
    at=st.none() | moments,
    metadata=texts,
)
trajectories = st.builds(
    Trajectory,
    id=texts,
    workspace=texts,
    task_id=texts,
    task_group=texts,
    task_type=texts,
    agent=texts,
    agent_version=texts,
    model=texts,
    provider=texts,
    tools=texts,
    end_state=st.sampled_from(["completed", "partial", "failed"]),
    started_at=st.none() | moments,
    arrived_at=moments,
    source=texts,
    source_line=maybe_counts,
    metadata=texts,
    steps=st.lists(steps, max_size=4).map(tuple),
)
outcomes = st.builds(
    Outcome,
    workspace=texts,
    trajectory_id=texts,
    signal=texts,
    value=st.floats(allow_nan=False),
    source=texts,
    checker_version=texts,
    step_index=st.none() | st.integers(0, 2**31 - 1),
    observed_at=moments,
    arrived_at=moments,
    comment=texts,
)


@settings(deadline=None)
@given(rows=st.lists(trajectories, max_size=3))
def test_any_trajectory_comes_back_from_arrow_and_parquet_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Trajectory]
) -> None:
    table = trajectories_table(rows)
    assert table.schema == TRAJECTORIES
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    artifacts.write_parquet(path, table)
    read = pq.read_table(path, schema=TRAJECTORIES)
    assert read.equals(table)
    assert [trajectory_of(row) for row in read.to_pylist()] == rows
    assert read["n_steps"].to_pylist() == [len(row.steps) for row in rows]
    assert read["content_digest"].to_pylist() == [content_digest(row) for row in rows]


@settings(deadline=None)
@given(rows=st.lists(outcomes, max_size=3))
def test_any_outcome_comes_back_from_arrow_as_it_was(rows: list[Outcome]) -> None:
    table = outcomes_table(rows)
    assert table.schema == OUTCOMES
    fields = Outcome.__struct_fields__
    assert [Outcome(**{f: row[f] for f in fields}) for row in table.to_pylist()] == rows
    assert table["id"].to_pylist() == [row.id for row in rows]


def test_no_rows_are_a_table_too() -> None:
    assert trajectories_table([]).equals(TRAJECTORIES.empty_table())
    assert outcomes_table([]).equals(OUTCOMES.empty_table())
    assert quarantine_table([]).equals(QUARANTINE.empty_table())


def test_a_quarantined_input_is_a_row() -> None:
    row = Quarantined(workspace="w", source="a.jsonl", line=None, error="broken", excerpt="{", arrived_at=NOON)
    assert quarantine_table([row]).to_pylist() == [
        {"workspace": "w", "source": "a.jsonl", "line": None, "error": "broken", "excerpt": "{", "arrived_at": NOON}
    ]


def test_the_same_fact_has_the_same_id_whenever_it_arrives() -> None:
    def outcome(**changes: object) -> str:
        told = {
            "workspace": "w",
            "trajectory_id": "t",
            "signal": "s",
            "value": 1.0,
            "source": "x",
            "observed_at": NOON,
            "arrived_at": NOON,
        }
        return Outcome(**(told | changes)).id

    berlin = timezone(timedelta(hours=1))
    assert outcome() == outcome(arrived_at=NOON + timedelta(days=3), comment="again")
    assert outcome() == outcome(observed_at=NOON.astimezone(berlin))
    different = [outcome(), outcome(value=0.0), outcome(step_index=0), outcome(observed_at=NOON + timedelta(seconds=1))]
    assert len(set(different)) == 4


def test_names_of_content_do_not_change_between_machines_and_versions() -> None:
    assert stable_id("a", "b") == "f04cdced9736a69da6103f08a4daaf8c"
    assert stable_id("a", "b") != stable_id("ab", "") != stable_id("ab")
    assert canonical_json({"b": [1.5, None], "a": "ü"}) == '{"a":"ü","b":[1.5,null]}'


def a_trajectory(*said: Step, **changes: object) -> Trajectory:
    fields = {
        "id": "t",
        "workspace": "w",
        "task_id": "1",
        "task_group": "1",
        "task_type": "",
        "agent": "a",
        "end_state": "completed",
        "arrived_at": NOON,
        "source": "s",
        "steps": said,
    }
    return Trajectory(**(fields | changes))


def test_the_content_digest_is_of_what_was_said_and_done() -> None:
    hello = Step(role="user", content="Hello")
    digest = content_digest(a_trajectory(hello))
    later = Step(role="user", content="Hello", at=NOON, prompt_tokens=5, metadata='{"cost":1}')
    assert digest == content_digest(a_trajectory(later, id="u", agent="b", arrived_at=NOON + timedelta(days=1)))
    assert digest != content_digest(a_trajectory(hello, tools='[{"name":"f"}]'))
    assert digest != content_digest(a_trajectory(Step(role="assistant", content="Hello")))
    assert digest != content_digest(a_trajectory(hello, hello))


def test_a_day_is_a_day_in_utc() -> None:
    assert arrival_day(datetime(2026, 1, 6, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == date(2026, 1, 5)


def test_the_arrow_schemas_hold_every_field_of_the_records() -> None:
    for kind, schema in ((Trajectory, TRAJECTORIES), (Outcome, OUTCOMES), (Quarantined, QUARANTINE)):
        assert set(kind.__struct_fields__) <= set(schema.names)
    step = TRAJECTORIES.field("steps").type.value_type
    assert tuple(step.field(i).name for i in range(step.num_fields)) == Step.__struct_fields__
    assert isinstance(step, pa.StructType)

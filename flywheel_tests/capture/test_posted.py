"""Posted trajectories: each is taken whole or set aside with its line and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.capture import posted
from flywheel.capture.posted import Limits, lines
from flywheel.schema import FlywheelError, Step, Trajectory
from flywheel.settings import Home

NOW = datetime(2026, 11, 12, 9, tzinfo=UTC)
LIMITS = Limits(depth=20, field=1000, steps=50)
LEAST = {"task_id": "t", "agent": "a", "steps": [{"role": "user", "content": "Hi"}]}


def read(home: Home, *records: bytes) -> posted.Read:
    """What is read of records posted to `desk`."""
    return posted.read(home, "desk", enumerate(records, 1), LIMITS, NOW)


def test_what_can_be_known_otherwise_may_be_left_out(desk: Home) -> None:
    [whole] = read(desk, msgspec.json.encode(LEAST)).accepted

    assert whole.trajectory == Trajectory(
        id=whole.trajectory.id,
        workspace="desk",
        task_id="t",
        task_group="t",
        task_type="",
        agent="a",
        end_state="completed",
        arrived_at=NOW,
        source="http",
        steps=(Step(role="user", content="Hi"),),
    )
    assert read(desk, msgspec.json.encode(LEAST)).accepted == [whole]  # its name is its content


def test_a_record_comes_in_as_it_was_written_out_but_for_its_arrival(desk: Home) -> None:
    first = read(desk, msgspec.json.encode(LEAST | {"id": "one", "metadata": '{"a": 1}', "started_at": NOW})).accepted[
        0
    ]

    assert read(desk, msgspec.json.encode(first.trajectory)).accepted == [first]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"steps": []}, "at least one step"),
        ({"steps": LEAST["steps"] * 51}, "may have 50 steps"),
        ({"steps": [{"role": "user", "contents": "Hi"}]}, "unknown field `contents`"),
        ({"steps": [{"role": "robot"}]}, "Invalid enum value 'robot'"),
        ({"workspace": "others"}, "sent to 'desk'"),
        ({"id": ""}, "1 to 512"),
        ({"id": "x" * 513}, "1 to 512"),
        ({"metadata": "[]"}, "metadata is a JSON object"),
        ({"metadata": '{"a": 1, "a": 2}'}, "stands twice"),
        ({"metadata": '{"a": NaN}'}, "NaN"),
        ({"metadata": '{"a":' * 30 + "1" + "}" * 30}, "more than 20"),
        ({"tools": "{}"}, "tools is a JSON list"),
        ({"tools": "[1e999]"}, "too large"),
        ({"started_at": "2026-11-12T09:00:00"}, "no time zone"),
        ({"agent": "x" * 1001}, "agent has 1,001 characters"),
        ({"n_steps": 1}, "unknown field `n_steps`"),
    ],
)
def test_what_is_not_right_is_set_aside_with_the_reason(desk: Home, change: dict, wrong: str) -> None:
    result = read(desk, msgspec.json.encode(LEAST), msgspec.json.encode(LEAST | change))

    assert len(result.accepted) == 1
    [row] = result.quarantined
    assert (row.line, row.source, row.workspace) == (2, "http", "desk")
    assert wrong in row.error


def test_secrets_are_out_before_anything_is_kept(desk: Home) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    good = LEAST | {"steps": [{"role": "user", "content": f"my key is {secret}"}]}

    result = read(desk, msgspec.json.encode(good), msgspec.json.encode({"secret": secret}))

    assert secret.encode() not in msgspec.json.encode(result)
    assert (len(result.accepted), len(result.quarantined)) == (1, 1)


def test_lines_and_lists_number_their_records() -> None:
    assert list(posted.lines(b'{"a":1}\r\n\n{}\n')) == [(1, b'{"a":1}\r\n'), (3, b"{}\n")]
    assert list(posted.items(b' [{"a": "]"} , 2]\n')) == [(1, b'{"a": "]"}'), (2, b"2")]
    assert list(posted.items(b"{}")) == [(1, b"{}")]
    assert list(posted.items(b"[]")) == []


@pytest.mark.parametrize(
    "body", [b'[{"a": 1}, ', b"[1 2]", b"[1,]", b"[1,,2]", b"[,]", b"[", b"[1] x", b"[\xff]", b"[" * 9000]
)
def test_what_is_no_list_is_refused_whole(body: bytes) -> None:
    with pytest.raises(FlywheelError, match="no JSON list"):
        list(posted.items(body))


@given(st.lists(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5)))
def test_items_of_a_list_are_its_items(values: list[object]) -> None:
    body = json.dumps(values, indent=1).encode()
    assert [json.loads(item) for _, item in posted.items(body)] == values


RECORDS = [msgspec.json.encode(LEAST), b"[" * 5000, b'{"task_id":', b"null"]


@given(st.lists(st.binary(max_size=40) | st.sampled_from(RECORDS)))
def test_in_is_accepted_and_quarantined(records: list[bytes]) -> None:
    body = b"\n".join(records)
    result = posted.read(Home(Path("nowhere")), "desk", lines(body), LIMITS, NOW)

    assert len(result.accepted) + len(result.quarantined) == len(list(lines(body)))
    msgspec.json.encode(result)

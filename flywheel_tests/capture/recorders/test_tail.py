"""A journal that is read as it grows, also where its end was taken back."""

from pathlib import Path

import pytest

from flywheel.capture.journals.events import Event, encoded
from flywheel.capture.recorders.tail import Tail
from flywheel.schema import Outcome
from flywheel_tests.capture.events import told


def heard(tail: Tail, *, dead: bool = False) -> list[str]:
    return [record.trajectory_id for record in tail.records(dead=dead) if isinstance(record, Outcome)]


def lines(*ids: str) -> bytes:
    events: list[Event] = [told(id) for id in ids]
    return encoded(events)


def test_what_is_new_is_told_once_and_what_has_no_end_waits(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(lines("a", "b")[:-1])
    tail = Tail(path)
    assert heard(tail) == ["a"]
    assert heard(tail) == []
    path.write_bytes(lines("a", "b", "c"))
    assert heard(tail) == ["b", "c"]
    assert tail.torn == []


@pytest.mark.parametrize("after", [("x",), ("longer than b was", "d"), ("x", "y", "z")])
def test_what_a_disk_did_not_take_hides_nothing_of_what_it_took_then(tmp_path: Path, after: tuple[str, ...]) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(lines("a", "b"))
    tail = Tail(path)
    assert heard(tail) == ["a", "b"]
    path.write_bytes(lines("a", *after))  # `b` was cut off again before anybody looked
    assert {*heard(tail), "a"} == {"a", *after}
    assert tail.torn == []

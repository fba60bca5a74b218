"""Halves of characters, as programs write them that cut text in UTF-16."""

import json

import msgspec
import pytest

from flywheel.capture.importers import halves
from flywheel_tests.capture.importers.conftest import Read
from flywheel_tests.capture.importers.test_claude_code import line, said, text, told, trajectories


def test_a_half_is_no_reason_to_lose_a_line(read: Read) -> None:
    cut = "as far as \ud83d"
    [trajectory] = trajectories(read, line("a", None, cut), said("b", "a", text("Hi")))

    assert told(trajectory) == ["as far as \ufffd", "Hi"]


def test_two_halves_are_a_whole() -> None:
    assert halves.joined({"text": "\ud83d\ude00", "cut": ["\ude00"]}) == {"text": "\U0001f600", "cut": ["\ufffd"]}


def test_other_json_is_read_as_always() -> None:
    assert halves.decoded(json.dumps({"text": r"\ud83d", "face": "\U0001f600"}).encode()) == {
        "text": r"\ud83d",
        "face": "\U0001f600",
    }
    with pytest.raises(ValueError, match="delimiter"):
        halves.decoded(rb'{"text": "\ud83d"')
    with pytest.raises(msgspec.ValidationError):
        halves.decoded(rb'{"text": "\ud83d"}', type=list[int])

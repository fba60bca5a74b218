"""Steps as chat messages."""

import msgspec
import pytest

from flywheel.schema import Step, ToolCall
from flywheel.views.messages import to_messages


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"order": "A1"}', {"order": "A1"}),
        ("[1, 2]", [1, 2]),
        ("A1, please", "A1, please"),
        ('{"half": "\\ud83d"}', '{"half": "\\ud83d"}'),  # a character that a stream cut apart
        ("[" * 100_000 + "]" * 100_000, "[" * 100_000 + "]" * 100_000),
    ],
    ids=["object", "list", "text", "half a character", "too deep"],
)
def test_arguments_are_objects_where_they_can_be_written_again(written: str, read: object) -> None:
    call = ToolCall(id="c", name="look", arguments=written)
    [message] = to_messages([Step(role="assistant", tool_calls=(call,))])
    assert message["tool_calls"][0]["function"]["arguments"] == read
    assert msgspec.json.encode(message)

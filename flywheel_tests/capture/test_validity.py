"""What could not be stored is refused when it is recorded: else it would stand in the way of all that is settled."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from flywheel.capture import Recorder
from flywheel.capture.settling.settle import settle
from flywheel.schema import FlywheelError, Step, Trajectory
from flywheel.settings import Home

LATER = datetime(2100, 1, 1, tzinfo=UTC)
EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=14))


@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=EAST), datetime(9999, 12, 31, 23, tzinfo=WEST)])
def test_a_time_that_no_calendar_has_in_utc(desk: Home, at: datetime) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with pytest.raises(FlywheelError, match=r"observed_at is .*, which no calendar has in UTC"):
        recorder.outcome("one", "s", 1.0, observed_at=at)
    with recorder.trajectory(task_id="1") as t, pytest.raises(FlywheelError, match=r"at is .*no calendar"):
        t.step(role="user", content="Hi", at=at)
    recorder.close()
    assert settle(desk, "desk", LATER).trajectories == 1


@pytest.mark.parametrize("index", [2**31, -(2**31)])
def test_an_index_of_more_than_32_bits(desk: Home, index: int) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with pytest.raises(FlywheelError, match="step_index is too large"):
        recorder.outcome("one", "s", 1.0, step_index=index)
    recorder.outcome("one", "s", 1.0, step_index=2**31 - 1)
    recorder.close()
    assert settle(desk, "desk", LATER).outcomes == 1


@pytest.mark.parametrize(
    ("field", "text"),
    [("metadata", "not json"), ("metadata", "[]"), ("metadata", '{"a": }'), ("metadata", ""), ("tools", '{"a": 1}')],
)
def test_text_that_is_not_the_json_that_it_should_be(desk: Home, field: str, text: str) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    whole = Trajectory(
        id="one",
        workspace="desk",
        task_id="1",
        task_group="1",
        task_type="",
        agent="bot",
        end_state="completed",
        arrived_at=LATER,
        source="test",
        steps=(Step(role="user", content="Hi"),),
    )
    with pytest.raises(FlywheelError, match=f"{field} is no JSON"):
        recorder.record([msgspec.structs.replace(whole, **{field: text})])
    recorder.record([msgspec.structs.replace(whole, metadata='{"half": "\ud83d"}')])
    recorder.close()
    assert settle(desk, "desk", LATER).trajectories == 1

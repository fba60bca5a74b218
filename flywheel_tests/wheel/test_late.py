"""Whether late outcomes changed verdicts on a version: asked without changing anything."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from flywheel import environments, warehouse
from flywheel.capture import workspaces
from flywheel.capture.journals.events import Exchanged, SetAside
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling.gathered import IDLE
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import Outcome, Quarantined, Step, Trajectory, outcomes_table, trajectories_table
from flywheel.wheel import late, versioning
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.versions import Version

CONFIG = WheelConfig(workspace="support", environments=("desk",), holdout_percent=1)
LATE = environments.get("desk").late_signal
MONDAY = datetime(2026, 11, 2, 9, tzinfo=UTC)
THURSDAY = MONDAY + timedelta(days=3)
V1 = Version(1, THURSDAY)


def outcome(number: int, signal: str, value: float, at: datetime) -> Outcome:
    return Outcome(
        workspace="support",
        trajectory_id=f"t{number}",
        signal=signal,
        value=value,
        source="desk",
        observed_at=at,
        arrived_at=at,
    )


@pytest.fixture
def made(home):
    """v1 as of Thursday of four episodes of Monday: t0, t1 and t2 succeeded, t3 failed."""
    episodes = [
        Trajectory(
            id=f"t{n}",
            workspace="support",
            task_id=f"task-{n}",
            task_group=f"group-{n}",
            task_type="desk",
            agent="desk-bot",
            end_state="completed",
            arrived_at=MONDAY,
            source="test",
            steps=(Step(role="user", content=f"Order {n}"), Step(role="assistant", content=f"{n} is {'done ' * n}")),
        )
        for n in range(4)
    ]
    workspaces.create(home, "support")
    warehouse.append(home.captures, trajectories_table(episodes))
    hear(home, *(outcome(n, "checker", float(n < 3), MONDAY) for n in range(4)))
    snapshot(home, CONFIG.corpus, versioning.spec(CONFIG), THURSDAY, version=1)
    return home


def hear(home, *outcomes: Outcome) -> None:
    warehouse.append(home.outcomes, outcomes_table(list(outcomes)))


def rows(home, now: datetime) -> int:
    return late.changes(home, CONFIG, V1, now).rows


def test_nothing_heard_changes_nothing(made):
    assert rows(made, THURSDAY + timedelta(days=30)) == 0


def test_work_that_was_undone_changes_its_row_once_it_is_heard(made):
    hear(made, outcome(1, LATE, 0.0, THURSDAY + timedelta(hours=1)))
    assert rows(made, THURSDAY) == 0
    assert rows(made, THURSDAY + timedelta(hours=1)) == 1


def test_a_confirmation_changes_nothing(made):
    hear(made, outcome(1, LATE, 1.0, THURSDAY + timedelta(hours=1)))
    assert rows(made, THURSDAY + timedelta(days=1)) == 0


def test_a_row_that_is_not_in_the_version_does_not_count(made):
    hear(made, outcome(3, LATE, 1.0, THURSDAY + timedelta(hours=1)))
    assert rows(made, THURSDAY + timedelta(days=1)) == 0


def test_the_latest_is_when_the_last_outcome_arrived(made):
    assert late.changes(made, CONFIG, V1, THURSDAY).latest == MONDAY
    hear(made, outcome(0, LATE, 1.0, THURSDAY + timedelta(hours=5)))
    assert late.changes(made, CONFIG, V1, THURSDAY + timedelta(hours=6)).latest == THURSDAY + timedelta(hours=5)


HOUR = timedelta(hours=1)
DUE = msgspec.structs.replace(CONFIG, late_share=0.1, late_hours=24.0, quiet_seconds=600)
NOW = THURSDAY + 10 * HOUR


@pytest.mark.parametrize(
    ("rows", "first", "latest", "why"),
    [
        (0, None, NOW - HOUR, "no verdict on its rows has changed"),
        (
            9,
            NOW - HOUR,
            NOW - HOUR,
            "9 of 100 verdicts have changed; waiting until 10.00% have, or 2026-11-06 18:00 UTC",
        ),
        (10, NOW - HOUR, NOW - HOUR, None),
        (10, NOW - HOUR, NOW, "10 of 100 verdicts have changed; waiting until outcomes are quiet for 0:10:00"),
        # A trickle that never rests is dealt with when the first has waited long enough.
        (1, NOW - 24 * HOUR, NOW, None),
    ],
)
def test_enough_changes_or_a_deadline_make_a_version(rows, first, latest, why):
    assert late.waiting(late.Changes(rows=rows, of=100, first=first, latest=latest), DUE, NOW) == why


def test_the_first_is_the_outcome_that_began_to_change_rows(made):
    assert late.changes(made, CONFIG, V1, THURSDAY).first is None
    hear(made, outcome(2, LATE, 1.0, THURSDAY + HOUR))
    hear(made, outcome(1, LATE, 0.0, THURSDAY + 2 * HOUR), outcome(0, LATE, 0.0, THURSDAY + 3 * HOUR))
    found = late.changes(made, CONFIG, V1, THURSDAY + 9 * HOUR)
    assert (found.rows, found.of, found.first) == (2, 3, THURSDAY + 2 * HOUR)


def test_whether_anything_arrived_since(made):
    hour = timedelta(hours=1)
    assert late.arrived(made, CONFIG, after=None, until=THURSDAY)
    assert late.arrived(made, CONFIG, after=MONDAY - hour, until=MONDAY)
    assert not late.arrived(made, CONFIG, after=MONDAY, until=THURSDAY)
    hear(made, outcome(0, LATE, 1.0, THURSDAY))
    assert late.arrived(made, CONFIG, after=MONDAY, until=THURSDAY)
    assert not late.arrived(made, CONFIG, after=THURSDAY, until=THURSDAY + hour)


def test_a_conversation_under_way_has_arrived_once_it_is_over(made):
    said = {"messages": [{"role": "user", "content": "Hello"}], "answers": [[{"role": "assistant", "content": "Hi."}]]}
    writer = Writer(made, "support")
    writer.put([Exchanged(Exchange(id="1", thread="1", started_at=THURSDAY, ended_at=THURSDAY, **said))]).result()
    writer.close()
    assert not late.arrived(made, CONFIG, after=MONDAY, until=THURSDAY + IDLE / 2)
    assert late.arrived(made, CONFIG, after=MONDAY, until=THURSDAY + IDLE)


def test_a_refused_input_is_nothing_that_a_version_is_made_of(made):
    input = Quarantined(workspace="support", source="http", line=1, error="no JSON", excerpt="", arrived_at=THURSDAY)
    with Writer(made, "support") as writer:
        writer.put([SetAside(input)]).result(5)
    assert not late.arrived(made, CONFIG, after=MONDAY, until=THURSDAY + IDLE)


def test_a_version_exists_once_it_is_made(made):
    assert late.exists(made, CONFIG, V1)
    assert not late.exists(made, CONFIG, Version(2, THURSDAY))

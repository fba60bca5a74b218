"""Whatever the order of arrival, and however it is spread over recorders, journals and files: the same version."""

import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import environments, warehouse
from flywheel.capture import workspaces
from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.settling.settle import settle
from flywheel.corpus import decisions
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.decide import decide
from flywheel.schema import Outcome, Step, Trajectory, outcomes_table, trajectories_table
from flywheel.settings import Home
from flywheel.wheel import versioning
from flywheel.wheel.config import WheelConfig

CONFIG = WheelConfig(environments=("desk",))
LATE = environments.get("desk").late_signal
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
AS_OF = MONDAY + timedelta(days=6)

# An answer said by two is an exact duplicate; which one stays must not hang on who came first to the disk.
ANSWERS = ("Your refund is on its way.", "The parcel left today.", "Your refund is on its way.", "I cannot do that.")


def trajectory(number: int) -> Trajectory:
    """Two a day from Monday on, the second at noon."""
    return Trajectory(
        id=f"t{number}",
        workspace=CONFIG.workspace,
        task_id=f"task {number % 4}",
        task_group=f"group {number % 4}",
        task_type="desk",
        agent="desk-bot",
        end_state="completed",
        arrived_at=MONDAY + timedelta(hours=12 * number + 1),
        source="test",
        steps=(
            Step(role="user", content=f"Order {number % 4}, please."),
            Step(role="assistant", content=ANSWERS[number % 4]),
        ),
    )


def outcome(number: int, signal: str, value: float, arrived_at: datetime) -> Outcome:
    return Outcome(
        workspace=CONFIG.workspace,
        trajectory_id=f"t{number}",
        signal=signal,
        value=value,
        source="test",
        observed_at=arrived_at,
        arrived_at=arrived_at,
    )


EPISODES = [trajectory(number) for number in range(10)]
VERDICTS = [outcome(n, "checker", float(n not in (3, 5)), episode.arrived_at) for n, episode in enumerate(EPISODES)]
# The first two are undone a day later, the third is confirmed on Thursday.
UNDONE = [outcome(n, LATE, float(n == 2), MONDAY + timedelta(days=1 + n, hours=2)) for n in range(3)]
RECORDS = [*EPISODES, *VERDICTS, *UNDONE]


def of_day(day: int) -> list[Trajectory | Outcome]:
    """What arrives on a day: 0 is Monday."""
    return [record for record in RECORDS if record.arrived_at.date() == (MONDAY + timedelta(days=day)).date()]


def stored(home: Home, record: Trajectory | Outcome) -> None:
    """Written straight into a file, as an importer does."""
    if isinstance(record, Trajectory):
        warehouse.append(home.captures, trajectories_table([record]))
    else:
        warehouse.append(home.outcomes, outcomes_table([record]))


def record_with(recorder: Recorder, record: Trajectory | Outcome) -> None:
    recorder.record(*(([record], []) if isinstance(record, Trajectory) else ([], [record])))


def version_digests(home: Home) -> tuple[str, str]:
    """What names the rows and the decisions of the wheel's version as of Sunday."""
    settle(home, CONFIG.workspace, now=AS_OF)
    decided = decide(home, versioning.spec(CONFIG), AS_OF)
    return decisions.rows_digest(decided.filter(decided["kept"])["row_digest"]), decisions.digest(decided)


@cache
def expected() -> tuple[str, str]:
    """One recorder, in the order in which things happened."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, CONFIG.workspace)
        with closing(Recorder(home, CONFIG.workspace, agent="test")) as recorder:
            recorder.record(EPISODES, [*VERDICTS, *UNDONE])
        return version_digests(home)


def test_the_version_has_rows_of_every_fate(home):
    workspaces.create(home, CONFIG.workspace)
    with closing(Recorder(home, CONFIG.workspace, agent="test")) as recorder:
        recorder.record(EPISODES, [*VERDICTS, *UNDONE])
    settle(home, CONFIG.workspace, now=AS_OF)
    decided = decide(home, versioning.spec(CONFIG), AS_OF).to_pylist()
    assert {row["trajectory_id"]: (row["reason"], row["detail"]) for row in decided} == {
        "t0": ("filtered", None),
        "t1": ("filtered", None),
        "t2": ("held out", None),
        "t3": ("filtered", None),
        "t4": ("kept", None),
        "t5": ("filtered", None),
        "t6": ("exact duplicate", "t2"),
        "t7": ("kept", None),
        "t8": ("pending", "2026-11-08T01:00:00Z"),
        "t9": ("pending", "2026-11-08T13:00:00Z"),
    }


WAYS = st.sampled_from(("one recorder", "another recorder", "a recorder of its own", "a file", "two recorders"))


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_order_and_any_way_of_arrival_give_the_same_version(data):
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, CONFIG.workspace)
        one, another = (Recorder(home, CONFIG.workspace, agent="test") for _ in range(2))
        for day in range(5):
            ended = MONDAY + timedelta(days=day, microseconds=-1)
            for record in data.draw(st.permutations(of_day(day)), label=f"day {day}"):
                way = data.draw(WAYS, label="way")
                if way in {"one recorder", "two recorders"}:
                    record_with(one, record)
                if way in {"another recorder", "two recorders"}:
                    record_with(another, record)
                if way == "a recorder of its own":
                    with closing(Recorder(home, CONFIG.workspace, agent="test")) as own:
                        record_with(own, record)
                if way == "a file":
                    stored(home, record)
            if data.draw(st.booleans(), label="settle the days before"):
                settle(home, CONFIG.workspace, now=ended)
        if data.draw(st.booleans(), label="a recorder goes away"):
            another.close()
        assert version_digests(home) == expected()
        one.close()
        another.close()


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_what_is_heard_after_the_as_of_time_never_changes_a_version(data):
    heard = data.draw(
        st.lists(
            st.builds(
                outcome,
                st.integers(0, 9),
                st.sampled_from(("checker", LATE)),
                st.sampled_from((0.0, 1.0)),
                st.timedeltas(timedelta(microseconds=1), timedelta(days=30)).map(lambda after: AS_OF + after),
            ),
            max_size=10,
        )
    )
    cut = data.draw(st.integers(0, len(heard)))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, CONFIG.workspace)
        with closing(Recorder(home, CONFIG.workspace, agent="test")) as recorder:
            recorder.record(EPISODES, [*VERDICTS, *UNDONE, *heard[:cut]])
        settle(home, CONFIG.workspace, now=AS_OF)
        made = snapshot(home, CONFIG.corpus, versioning.spec(CONFIG), AS_OF, version=1)
        assert (made.digest, made.decisions_digest) == expected()
        with closing(Recorder(home, CONFIG.workspace, agent="test")) as recorder:
            recorder.record(outcomes=heard[cut:])
        settle(home, CONFIG.workspace, now=AS_OF + timedelta(days=40))
        again = rebuild(home, CONFIG.corpus, 1)
        assert (again.same, again.digest, again.restored) == (True, expected()[0], ())

"""What schedules and the sensor ask for, without a daemon. Asking changes nothing, so each may be previewed."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from flywheel.capture import workspaces
from flywheel.capture.feedback import ledger
from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.settling.settle import settle
from flywheel.corpus.manifest import versions
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.store import rows
from flywheel.defs.automation import close_day, late_outcomes, nightly
from flywheel.defs.resources import Wheel
from flywheel.environments import get
from flywheel.wheel import config, simulation, versioning
from flywheel.wheel.versions import Version

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
V1 = Version(1, MONDAY + timedelta(days=3))
NIGHT = datetime(2026, 3, 7, 0, 30, tzinfo=UTC)
TOML = (
    'workspace = "support"\nenvironments = ["desk"]\nquiet_seconds = 0\nweek_start = 2026-03-01\nholdout_percent = 1\n'
)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        found.add_dynamic_partitions("versions", [V1.key])
        yield found


@pytest.fixture
def stored_instance(tmp_path):
    """One that lies on disk: a schedule that is called opens its instance anew."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        found.add_dynamic_partitions("versions", [V1.key])
        yield found


@pytest.fixture
def made(home, monkeypatch):
    """Three episodes of Monday, settled, and v1 of them."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    home.root.mkdir()
    (home.root / "wheel.toml").write_text(TOML)
    workspaces.create(home, "support")
    record(home, MONDAY, "a", "b", "c")
    settle(home, "support", now=V1.as_of)
    snapshot(home, "corpus", versioning.spec(config.load(home)), V1.as_of, version=1)
    return home


def record(home, at, *words):
    """An episode for each word, in a journal whose writer is gone."""
    recorder = Recorder(home, "support", agent="bot", clock=lambda: at)
    for word in words:
        with recorder.trajectory(task_id=word, task_type="desk", id=word) as episode:
            episode.step(role="user", content=word * 3)
            episode.step(role="assistant", content=word * 5)
            episode.outcome("checker", 1.0, source="environment")
    recorder.close()


def undo(home):
    """A late outcome on the first row of v1: its work was undone."""
    row = rows(home, "corpus", 1)["id"][0].as_py()
    ledger.tell(home, "support", row, get("desk").late_signal, 0.0)


def look(instance, cursor=None):
    """What the sensor says, and the cursor that it leaves."""
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"wheel": Wheel()}) as context:
        return late_outcomes(context)


def tick(schedule, instance, at=NIGHT):
    resources = {"wheel": Wheel()}
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at, resources=resources) as context:
        return schedule(context)


def keys(said):
    return [request.run_key for request in said.run_requests]


def why(said):
    return said.skip_message if isinstance(said, dg.SkipReason) else said.skip_reason.skip_message


def test_nothing_late_is_looked_at_once(made, instance):
    said = look(instance)
    assert why(said) == "no verdict on rows of v1 has changed"
    assert why(look(instance, said.cursor)) == "no outcome has arrived since the last look"


def test_a_late_outcome_asks_for_a_version_and_its_turn(made, instance):
    undo(made)
    said = look(instance)
    [today, request] = said.run_requests
    [partitions] = said.dynamic_partitions_requests
    assert (today.job_name, today.partition_key) == ("day", datetime.now(UTC).date().isoformat())
    assert (request.job_name, [request.partition_key]) == ("turn", list(partitions.partition_keys))
    assert request.partition_key.startswith("v2-")
    assert request.tags == {"flywheel/reason": "1 verdicts on v1 changed"}
    assert why(look(instance, said.cursor)) == "no outcome has arrived since the last look"


def test_asking_changes_nothing(made, instance):
    undo(made)
    before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*")}
    first, second = look(instance), look(instance)
    assert keys(first) == keys(second)
    assert instance.get_dynamic_partitions("versions") == [V1.key]
    assert {path: path.stat().st_mtime_ns for path in made.root.rglob("*")} == before


def test_outcomes_are_left_to_become_quiet(made, instance):
    (made.root / "wheel.toml").write_text(TOML.replace("quiet_seconds = 0", "quiet_seconds = 600"))
    undo(made)
    assert "waiting until outcomes are quiet" in why(look(instance))


def test_a_few_changes_wait_for_more_or_for_their_deadline(made, instance):
    (made.root / "wheel.toml").write_text(TOML + "late_share = 0.9\nlate_hours = 1\n")
    undo(made)
    said = look(instance)
    assert "1 of 3 verdicts have changed; waiting until 90.00% have" in why(said)
    assert not isinstance(said, dg.SensorResult)  # the cursor stays, so that the deadline is seen to pass
    (made.root / "wheel.toml").write_text(TOML + "late_share = 0.9\nlate_hours = 0\n")
    assert look(instance).run_requests


def test_a_turn_under_way_is_waited_for(made, instance):
    undo(made)
    instance.create_run_for_job(turn_of_nothing, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "v2-x"})
    assert why(look(instance)) == "waiting for the turn of v2-x"


@dg.job(name="turn")
def turn_of_nothing():
    """A stand-in by name."""


def test_a_journal_is_settled_once_though_its_writer_lives(made, instance):
    recorder = Recorder(made, "support", agent="bot")
    with recorder.trajectory(task_id="d") as episode:
        episode.step(role="user", content="hello")
        said = look(instance)
        [request] = said.run_requests
        assert (request.job_name, request.partition_key) == ("day", datetime.now(UTC).date().isoformat())
        assert why(look(instance, said.cursor)) == "no verdict on rows of v1 has changed"
        episode.step(role="assistant", content="good day")
        again = look(instance, said.cursor).run_requests[0].run_key
        assert again != request.run_key
    recorder.close()


def test_a_version_whose_run_failed_is_recovered_under_its_key_or_passed_over(made, instance):
    undo(made)
    cursor = look(instance).cursor
    failed = Version(2, datetime(2026, 3, 20, tzinfo=UTC))
    instance.add_dynamic_partitions("versions", [failed.key])
    assert why(look(instance, cursor)) == "no outcome has arrived since the last look"
    ledger.tell(made, "support", rows(made, "corpus", 1)["id"][1].as_py(), get("desk").late_signal, 0.0)
    assert look(instance, cursor).run_requests[-1].partition_key.startswith("v3-")
    versioning.corpus(made, config.load(made), failed)
    assert versions(made, "corpus") == [1, 2]


def test_a_number_taken_by_hand_is_not_given_again(made, instance):
    snapshot(made, "corpus", versioning.spec(config.load(made)), MONDAY + timedelta(days=4))
    undo(made)
    assert look(instance).run_requests[-1].partition_key.startswith("v3-")


def test_the_cursor_stays_small(made, instance):
    assert set(json.loads(look(instance).cursor)) == {"seen", "settling"}


def test_nightly_makes_what_arrived_by_midnight(made, stored_instance):
    assert why(tick(nightly, stored_instance)) == "nothing had arrived since the newest version"
    record(made, NIGHT - timedelta(hours=8), "d")
    first, second = tick(nightly, stored_instance), tick(nightly, stored_instance)
    assert first.partition_key == second.partition_key == "v2-20260307T000000Z"
    assert stored_instance.get_dynamic_partitions("versions") == [V1.key, "v2-20260307T000000Z"]


def test_nightly_leaves_what_came_after_midnight_to_the_next_night(made, stored_instance):
    record(made, NIGHT, "d")
    assert why(tick(nightly, stored_instance)) == "nothing had arrived since the newest version"
    assert tick(nightly, stored_instance, NIGHT + timedelta(days=1)).partition_key == "v2-20260308T000000Z"


def test_nightly_takes_up_what_a_failed_night_left(made, stored_instance):
    record(made, NIGHT - timedelta(hours=8), "d")
    tick(nightly, stored_instance)
    assert tick(nightly, stored_instance, NIGHT + timedelta(days=1)).partition_key == "v3-20260308T000000Z"


def test_no_night_is_named_before_it_comes(made, instance):
    assert "is still to come" in why(tick(nightly, instance, datetime.now(UTC) + timedelta(days=2)))


def test_a_day_is_closed_when_there_is_something_to_close(made, instance):
    assert tick(close_day, instance).partition_key == "2026-03-06"
    assert why(tick(close_day, instance, MONDAY - timedelta(days=1))) == "days begin on 2026-03-01"
    (made.root / "wheel.toml").write_text(TOML.replace("support", "nobody"))
    assert why(tick(close_day, instance)) == "nothing has been captured into workspace 'nobody' yet"


def test_all_hold_off_while_a_simulated_past_is_being_recorded(made, instance):
    undo(made)
    with pytest.raises(KeyboardInterrupt), simulation.recording(made):
        raise KeyboardInterrupt
    for said in (look(instance), tick(nightly, instance), tick(close_day, instance)):
        assert "a simulated past is being recorded" in why(said)
    with simulation.recording(made):
        pass
    assert look(instance).run_requests

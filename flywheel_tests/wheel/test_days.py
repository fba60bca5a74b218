"""One day: the agents act, captures are settled, outcomes join the ledger; done again, it adds nothing."""

from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flywheel import warehouse
from flywheel.capture.feedback import ledger
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError
from flywheel.wheel import days, week
from flywheel.wheel.config import WheelConfig

MONDAY = date(2026, 11, 2)
TUESDAY = MONDAY + timedelta(days=1)
CONFIG = WheelConfig(working_days=2, episodes_a_day=40, week_start=MONDAY)


def live(home, day: date) -> tuple[dict, dict, dict]:
    return tuple(stage(home, CONFIG, day).counts for stage in (days.agents, days.captures, days.outcomes))


def captured(home):
    return warehouse.read(home.captures, TRAJECTORIES, CONFIG.workspace)


def test_a_day_key_names_a_day():
    assert days.parse("2026-11-02") == MONDAY
    with pytest.raises(FlywheelError, match="'yesterday' names no day"):
        days.parse("yesterday")


def test_a_working_day(home):
    acted, settled, told = live(home, MONDAY)
    assert acted["episodes"] == 40
    assert settled == {"trajectories": 40, "steps": settled["steps"], "quarantined": 0, "files": 1}
    assert told["outcomes"] == 40 + acted["late outcomes"]
    rows = captured(home)
    assert {moment.date() for moment in rows["arrived_at"].to_pylist()} == {MONDAY}
    assert sorted(set(rows["task_type"].to_pylist())) == ["desk", "files"]
    assert rows["n_steps"].to_pylist() and pc.sum(rows["n_steps"]).as_py() == settled["steps"]


def test_the_same_day_again_adds_nothing_and_has_the_same_digest(home):
    live(home, MONDAY)
    before = [stage(home, CONFIG, MONDAY).digest for stage in (days.captures, days.outcomes)]
    ids = captured(home)["id"].to_pylist()
    live(home, MONDAY)
    assert captured(home)["id"].to_pylist() == ids
    assert [stage(home, CONFIG, MONDAY).digest for stage in (days.captures, days.outcomes)] == before


def test_the_digest_of_a_day_knows_nothing_of_files(home):
    live(home, MONDAY)
    digest = days.outcomes(home, CONFIG, MONDAY).digest
    [path] = warehouse.files(home.outcomes, CONFIG.workspace)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 10), path)
    pq.write_table(table.slice(10), path.with_name("0.parquet"))
    assert days.outcomes(home, CONFIG, MONDAY).digest == digest
    pq.write_table(table.slice(11), path.with_name("0.parquet"))
    assert days.outcomes(home, CONFIG, MONDAY).digest != digest


def test_facts_tell_who_acted_and_what_was_heard(home):
    days.agents(home, CONFIG, MONDAY)
    facts = days.captures(home, CONFIG, MONDAY)
    assert sum(row["rows"] for row in facts.tables["agents"]) == facts.counts["trajectories"]
    assert {row["agent"] for row in facts.tables["agents"]} == {"desk-bot", "files-bot"}
    told = days.outcomes(home, CONFIG, MONDAY)
    assert sum(row["rows"] for row in told.tables["signals"]) == told.counts["outcomes"]
    assert {"checker"} <= {row["signal"] for row in told.tables["signals"]}


def test_after_the_week_only_late_outcomes_arrive_each_on_its_day(home):
    late = 0
    for index in range(12):
        acted, _, told = live(home, MONDAY + timedelta(days=index))
        late += acted["late outcomes"]
        assert acted["episodes"] == (40 if index < 2 else 0)
        assert told["outcomes"] == acted["episodes"] + acted["late outcomes"]
    rows = warehouse.read(home.outcomes, OUTCOMES, CONFIG.workspace)
    heard = rows.filter(pc.field("signal") != "checker")
    forthcoming = [row for path in home.forthcoming.glob("*.parquet") for row in pq.read_table(path)["id"].to_pylist()]
    assert sorted(heard["id"].to_pylist()) == sorted(forthcoming)
    assert heard.num_rows == late > 0


def test_what_is_heard_of_earlier_days_is_named_with_how_late_it_is(home):
    live(home, MONDAY)
    live(home, TUESDAY)
    episode = captured(home).filter(pc.field("arrived_at") < datetime(2026, 11, 3, tzinfo=UTC)).to_pylist()[0]
    heard = episode["arrived_at"] + timedelta(hours=36)
    before = days.outcomes(home, CONFIG, heard.date())
    ledger.tell(home, CONFIG.workspace, episode["id"], "reopened", 0.0, now=heard)
    facts = days.outcomes(home, CONFIG, heard.date())
    told = facts.tables["of episodes of earlier days"]
    late = {"trajectory": episode["id"], "signal": "reopened", "value": 0.0, "source": "person", "hours late": 36.0}
    assert late in told
    assert all(row["signal"] != "checker" for row in told)
    assert facts.plots != before.plots, "the curves are drawn anew"
    assert [row["hours late"] for row in told] == sorted((row["hours late"] for row in told), reverse=True)


def test_another_schema_is_named_with_its_file(home):
    live(home, MONDAY)
    assert days.schema_failures(home, CONFIG) == []
    [path] = warehouse.files(home.captures, CONFIG.workspace)
    odd = path.with_name("odd.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["steps"]), odd)
    [row] = days.schema_failures(home, CONFIG)
    assert row["file"] == "odd.parquet" and "'steps'" not in row["columns"]


def test_a_day_before_the_week_is_quiet(home):
    assert week.work(home, CONFIG, MONDAY - timedelta(days=1)) == (0, 0)

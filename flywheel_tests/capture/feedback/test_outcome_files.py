"""Outcomes from files: what is read, what is refused with its line, and that reading twice adds nothing."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder
from flywheel.capture.feedback import outcome_files
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, FlywheelError
from flywheel.settings import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def written(tmp_path: Path, text: str | bytes, name: str = "verdicts.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ledger(home: Home) -> list[tuple[object, ...]]:
    rows = warehouse.read(home.outcomes, OUTCOMES, "desk").to_pylist()
    return sorted((r["trajectory_id"], r["signal"], r["value"], r["source"], r["observed_at"]) for r in rows)


def quarantine(home: Home) -> list[tuple[object, ...]]:
    rows = warehouse.read(home.quarantine, QUARANTINE, "desk").to_pylist()
    return sorted((r["line"], r["error"], r["excerpt"]) for r in rows)


def test_a_csv_file_is_read_into_the_ledger(desk: Home, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "trajectory_id,signal,value,observed_at,comment,mood\n"
        'a,resolved,1,2026-01-05T13:00:00+01:00,"ann@x.org said:\n""thanks""",good\n'
        "b,resolved,false,2026-01-05 12:30:00Z,,\n",
    )
    report = outcome_files.load(desk, path, "desk", now=NOON)
    assert (report.rows, report.added, report.quarantined, report.unknown_trajectories) == (2, 2, 0, 2)
    assert (report.signals, report.ignored_columns) == ({"resolved": 2}, ("mood",))
    assert ledger(desk) == [
        ("a", "resolved", 1.0, "file", NOON),
        ("b", "resolved", 0.0, "file", NOON.replace(minute=30)),
    ]
    comments = warehouse.read(desk.outcomes, OUTCOMES)["comment"].to_pylist()
    assert sorted(comments) == ["", '<EMAIL> said:\n"thanks"']


def test_bad_rows_are_quarantined_with_their_lines_and_the_rest_goes_on(desk: Home, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        b"trajectory_id,signal,value,step_index,observed_at\n"  # 1
        b"a,s,1,,\n"
        b"b,s,much,,\n"  # 3
        b'"c\nc",s,1,0,\n'  # 4 and 5
        b"d,s,nan,,\n"  # 6
        b"e,s,1,-1,\n"  # 7
        b"f,s,1\n"  # 8
        b"\n"
        b"g,s,1,,2026-01-05T12:00:00\n"  # 10
        b"\xff,s,1,,\n"  # 11
        b",s,1,,\n"  # 12
        b'h,s,1,"x"y,\n'  # 13
        b"i,s,1,,yesterday\n"  # 14
        b"j,s,2,,2026-01-05T12:00:00Z\n",
    )
    report = outcome_files.load(desk, path, "desk", now=NOON)
    assert (report.rows, report.added, report.quarantined) == (12, 3, 9)
    assert [row[0] for row in ledger(desk)] == ["a", "c\nc", "j"]
    assert [line for line, _, _ in quarantine(desk)] == [3, 6, 7, 8, 10, 11, 12, 13, 14]
    told = {line: error for line, error, _ in quarantine(desk)}
    assert "3 cells where the header has 5 columns" in told[8]
    assert "has no time zone" in told[10]
    assert told[11] == "this is not UTF-8"
    assert "`trajectory_id`" in told[12]
    assert "is no time" in told[14]


def test_a_file_that_is_read_twice_adds_nothing(desk: Home, tmp_path: Path) -> None:
    path = written(tmp_path, "trajectory_id,signal,value\na,s,1\nb,s,0\nb,s,0\n")
    first = outcome_files.load(desk, path, "desk")
    again = outcome_files.load(desk, path, "desk")
    assert (first.added, first.already_there) == (2, 1)
    assert (again.added, again.already_there) == (0, 3)
    assert len(ledger(desk)) == 2


def test_json_lines_with_columns_of_other_names(desk: Home, tmp_path: Path) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1", id="a"):
        pass
    recorder.close()
    settle(desk, "desk", datetime(2030, 1, 1, tzinfo=UTC))
    path = written(
        tmp_path,
        '{"run": "a", "score": 9, "when": "2026-01-05T12:00:00", "step_index": null}\n'
        '{"run": "a", "score": "nine"}\n'
        "[1]\n\n"
        '{"run": "b", "score": 8.5, "signal": "csat", "extra": {}}\n',
        "nps.jsonl",
    )
    columns = {"run": "trajectory_id", "score": "value", "when": "observed_at"}
    report = outcome_files.load(
        desk, path, "desk", columns=columns, signal="nps", source="survey", zone=ZoneInfo("Europe/Berlin"), now=NOON
    )
    assert (report.rows, report.added, report.quarantined, report.unknown_trajectories) == (4, 2, 2, 1)
    assert report.ignored_columns == ("extra",)
    assert ledger(desk) == [
        ("a", "nps", 9.0, "survey", NOON.replace(hour=11)),
        ("b", "csat", 8.5, "survey", NOON),
    ]
    assert [line for line, _, _ in quarantine(desk)] == [2, 3]


def test_other_delimiters_and_a_byte_order_mark(desk: Home, tmp_path: Path) -> None:
    path = written(tmp_path, "\ufefftrajectory_id;signal;value\r\na;s;1\r\n")
    assert outcome_files.load(desk, path, "desk").added == 1
    path = written(tmp_path, "trajectory_id\tsignal\tvalue\nb\ts\t1\n", "x.tsv")
    assert outcome_files.load(desk, path, "desk").added == 1


def test_a_dry_run_stores_nothing(desk: Home, tmp_path: Path) -> None:
    path = written(tmp_path, "trajectory_id,signal,value\na,s,1\nb,s,x\n")
    report = outcome_files.load(desk, path, "desk", dry_run=True)
    assert (report.rows, report.added, report.quarantined, report.errors[0][0]) == (2, 0, 1, 3)
    assert ledger(desk) == quarantine(desk) == []
    assert not desk.intake.exists()


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("id,signal,value", {}, "no column 'trajectory_id'.*--map COLUMN=trajectory_id"),
        ("trajectory_id,value", {}, "--signal NAME"),
        ("trajectory_id,signal,value,value", {}, "more than once"),
        ("trajectory_id,signal,value", {"score": "value"}, "has no column score"),
        ("trajectory_id,signal,value", {"value": "worth"}, "no field 'worth'"),
        ("", {}, "no column 'trajectory_id'"),
    ],
)
def test_headers_that_do_not_do_are_explained(
    desk: Home, tmp_path: Path, header: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(FlywheelError, match=message):
        outcome_files.load(desk, written(tmp_path, header + "\n"), "desk", columns=columns)


def test_a_key_names_one_fact(desk: Home, tmp_path: Path) -> None:
    path = written(tmp_path, "trajectory_id,signal,value,key\na,s,1,k1\na,s,1,k2\na,s,0,k1\n")
    report = outcome_files.load(desk, path, "desk", now=NOON)
    assert (report.added, report.already_there, report.quarantined) == (1, 1, 1)
    assert "was told of another outcome" in report.errors[0][1]

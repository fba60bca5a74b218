"""Reports: worked out of rows, written whole, read back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from flywheel.evaluate.entrants import Entrant, Player, play_all
from flywheel.evaluate.markdown import cell, table, tables
from flywheel.evaluate.report import build, ids, latest, load, results_of, write
from flywheel.evaluate.results import RESULTS
from flywheel.evaluate.suite import Suite
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.evaluate.toy import Solver, Toy, rows

NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)
SUITE = Suite(environments={"toy": 8}, temperatures=(0.0, 1.0))
ENTRANTS = (
    Entrant(name="new", policy_id="dpo-1", digest="d1"),
    Entrant(name="old", policy_id="sft-1", digest="d2"),
    Entrant(name="empty", role="baseline"),
)
ROWS = pa.concat_tables(
    [
        rows("new", [True] * 8),
        rows("new", [True] * 7 + [False], temperature=1.0),
        rows("old", [True] * 4 + [False] * 4),
        rows("old", [True] * 5 + [False] * 3, temperature=1.0),
        rows("empty", [False] * 8),
    ]
)


def made(id: str = "v1", created_at: datetime = NOON, results: pa.Table = ROWS, **options):
    options = {"suite": SUITE, "entrants": ENTRANTS, "candidate": "new", "champion": "old", **options}
    return build(results, id=id, created_at=created_at, **options)


def test_success_and_the_comparisons_that_matter():
    report = made()
    assert [(r.policy, r.temperature, r.success) for r in report.success] == [
        ("new", 0.0, 1.0),
        ("new", 1.0, 0.875),
        ("old", 0.0, 0.5),
        ("old", 1.0, 0.625),
        ("empty", 0.0, 0.0),
    ]
    # Greedy against each other greedy and at its best temperature; the champion at every temperature.
    assert [(c.first_temperature, c.second, c.second_temperature, c.paired.difference) for c in report.comparisons] == [
        (0.0, "old", 0.0, 0.5),
        (0.0, "old", 1.0, 0.375),
        (0.0, "empty", 0.0, 1.0),
        (1.0, "old", 1.0, 0.25),
    ]
    assert [(c.slice, c.paired.difference) for c in report.slice_comparisons] == [("toy", 0.5)]
    assert report.entrant("old").policy_id == "sft-1"
    with pytest.raises(FlywheelError, match="judged no 'other'; it judged: new, old, empty"):
        report.entrant("other")


def test_written_and_read_back_with_plots_and_further_tables(home: Home, tmp_path: Path):
    loss = tmp_path / "loss.png"
    loss.write_bytes(b"png")
    cost = [{"stage": "trees", "seconds": 1.5, "bottleneck": True}, {"stage": "dpo", "seconds": None, "note": "a|b"}]
    report = made(leaks=[], corpus="support@v1", corpus_digest="abc", tables={"Cycle time": cost})
    folder = write(home, report, ROWS, {"Loss of DPO": loss})
    assert sorted(p.name for p in folder.iterdir()) == [
        "loss-of-dpo.png",
        "report.json",
        "report.md",
        "results.parquet",
        "success.png",
        "temperatures.png",
    ]
    again = load(home, "v1")
    assert again.plots["Loss of DPO"] == "loss-of-dpo.png"
    assert (again.success, again.comparisons, again.slices) == (report.success, report.comparisons, report.slices)
    assert again.tables == {"Cycle time": cost}
    assert [*again.tables["Cycle time"][0]] == ["stage", "seconds", "bottleneck"]
    assert results_of(home, "v1").equals(ROWS)
    page = (folder / "report.md").read_text()
    assert "Candidate **new** against the champion **old**. Corpus support@v1 (digest abc)." in page
    assert "| new | 0 | 1 | [0.676, 1.000] | 8 |" in page
    assert "| stage | seconds | bottleneck | note |\n| --- | --- | --- | --- |\n| trees | 1.5 | yes |  |" in page
    assert "a\\|b" in page
    assert "no training row leaks" in page
    assert "![Success by temperature](temperatures.png)" in page
    assert (folder / "success.png").read_bytes().startswith(b"\x89PNG")


def test_the_newest_is_the_latest(home: Home):
    for id, hours in (("b", 0), ("a", 1)):
        write(home, made(id, NOON + timedelta(hours=hours)), ROWS)
    assert ids(home) == ["a", "b"]
    assert latest(home).id == load(home, "latest").id == "a"


def test_none_yet(home: Home):
    with pytest.raises(FlywheelError, match="no report yet"):
        latest(home)
    with pytest.raises(FlywheelError, match="there is no report 'v9'; there are: none"):
        load(home, "v9")


def test_a_failed_write_leaves_nothing(home: Home, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write(home, made(), ROWS, {"Loss": tmp_path / "absent.png"})
    assert list(home.reports.iterdir()) == []


def test_an_offline_report_has_no_rows_to_compare(home: Home):
    empty = Suite(environments={}, temperatures=())
    report = made(results=RESULTS.empty_table(), suite=empty, champion=None, tables={"Offline": [{"nll": 1.0}]})
    folder = write(home, report, RESULTS.empty_table())
    assert [*tables(report)] == ["Offline"]
    assert not list(folder.glob("*.png"))


def test_all_players_at_all_their_temperatures():
    suite = Suite(environments={"toy": 2}, temperatures=(0.0, 0.5))
    players = [
        Player(entrant=Entrant(name="solver"), actor=Solver("solver")),
        Player(
            entrant=Entrant(name="lazy", role="baseline"), actor=Solver("lazy", lambda i: False), temperatures=(0.0,)
        ),
    ]
    told: list[int] = []
    results = play_all(suite, players, lookup=Toy, progress=told.append)
    assert [(r["policy"], r["temperature"], r["success"]) for r in results.to_pylist()] == [
        ("solver", 0.0, True),
        ("solver", 0.0, True),
        ("solver", 0.5, True),
        ("solver", 0.5, True),
        ("lazy", 0.0, False),
        ("lazy", 0.0, False),
    ]
    assert told[-1] == 6


def test_cells_and_tables():
    assert [cell(v) for v in (None, True, 0.5, 1.0, 2e-4, 0.0, 3, "a\nb")] == [
        "",
        "yes",
        "0.5",
        "1",
        "0.0002",
        "0",
        "3",
        "a b",
    ]
    assert table([]) == "None."

"""Every view exists from the first moment, reads what runs write, and lets nothing else be touched."""

import shutil
from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import pyarrow as pa
import pytest

from flywheel import artifacts, warehouse
from flywheel.corpus import catalog
from flywheel.corpus.query import Bounds, query
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError, Quarantined, Step, quarantine_table
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, trajectory, verdict, write


def rows(home, sql):
    return query(home, sql).rows


def test_with_no_data_every_view_is_there_and_empty(home):
    for view in catalog.views(home):
        assert rows(home, f"SELECT count(*) FROM {view}") == [(0,)], view
    assert query(home, "FROM decisions").columns[:7] == [
        "corpus",
        "version",
        "candidate",
        "trajectory_id",
        "content_digest",
        "kept",
        "split",
    ]


def test_columns_are_the_same_before_and_after_the_first_rows(week):
    empty = Home(week.root.parent / "empty")
    snapshot(week, "support", SPEC, MONDAY)
    for view in ("trajectories", "steps", "tool_calls", "outcomes", "joined", "versions", "decisions", "corpus_rows"):
        described = f"SELECT column_name, column_type FROM (DESCRIBE {view})"
        assert rows(week, described) == rows(empty, described), view


def test_captures_steps_and_calls(week):
    assert rows(week, "SELECT count(*), sum(n_steps) FROM trajectories") == [(12, 60)]
    assert rows(week, "SELECT role, count(*) FROM steps GROUP BY ALL ORDER BY ALL") == [
        ("assistant", 24),
        ("system", 12),
        ("tool", 12),
        ("user", 12),
    ]
    assert query(week, "FROM steps WHERE trajectory_id = 't001' AND step_index = 4").records()[0]["content"] == (
        "Your address 1 is done."
    )
    assert query(week, "FROM tool_calls WHERE trajectory_id = 't005'").records() == [
        {
            "trajectory_id": "t005",
            "workspace": "support",
            "step_index": 2,
            "call_index": 0,
            "id": "call_0",
            "name": "look_up",
            "arguments": '{"order": 5}',
            "result": "found",
            "is_error": False,
        }
    ]


def test_what_was_written_twice_is_there_once(week):
    write(week, outcomes=[verdict(n, float(n not in (3, 7))) for n in range(12)][::-1])
    assert rows(week, "SELECT count(*) FROM outcomes") == [(12,)]


def test_joined_uses_the_reward_policy_of_the_newest_version(week):
    # The default policy asks for a signal that this workspace does not have.
    assert rows(week, "SELECT DISTINCT state FROM joined") == [("expired",)]
    snapshot(week, "support", SPEC, MONDAY)
    assert rows(week, "SELECT workspace, state, success, count(*) FROM joined GROUP BY ALL ORDER BY ALL") == [
        ("support", "resolved", False, 2),
        ("support", "resolved", True, 10),
    ]


def test_decisions_account_for_every_candidate_of_finished_versions(week):
    made = snapshot(week, "support", SPEC, MONDAY)
    write(week, outcomes=[verdict(1, 0.0, "reopened", TUESDAY)])
    late = snapshot(week, "support", SPEC, TUESDAY)
    assert rows(week, "SELECT version, count(*) FROM decisions GROUP BY ALL ORDER BY ALL") == [(1, 12), (2, 12)]
    assert rows(week, "SELECT version, count(*) FROM corpus_rows GROUP BY ALL ORDER BY ALL") == [
        (1, made.rows),
        (2, late.rows),
    ]
    assert rows(week, "SELECT corpus, version, parents, digest FROM versions ORDER BY version") == [
        ("support", 1, [], made.digest),
        ("support", 2, [1], late.digest),
    ]
    (week.corpora / "support" / "versions" / "v2.json").unlink()
    assert rows(week, "SELECT DISTINCT version FROM decisions") == [(1,)]


def test_clusters_name_what_is_kept_for_its_duplicates(home):
    twins = [
        msgspec.structs.replace(trajectory(1), id=id, arrived_at=MONDAY + timedelta(seconds=n))
        for n, id in enumerate("cab")
    ]
    longer = msgspec.structs.replace(twins[0], id="d", steps=(*twins[0].steps, Step(role="user", content="Thanks.")))
    write(home, [*twins, longer, trajectory(2)])
    spec = msgspec.structs.replace(SPEC, filter="true", holdout_percent=0)
    told = [msgspec.structs.replace(verdict(1, 1.0), trajectory_id=id) for id in "abcd"]
    write(home, outcomes=[*told, verdict(2, 1.0)])
    snapshot(home, "support", spec, TUESDAY)
    # `a` repeats `c`, and `c` is how `d` begins: so `d` stands for all of them.
    assert rows(home, "SELECT cluster, trajectory_id, reason FROM clusters ORDER BY ALL") == [
        ("d", "a", "exact duplicate"),
        ("d", "b", "exact duplicate"),
        ("d", "c", "prefix duplicate"),
        ("d", "d", None),
    ]


def test_the_rest_of_the_wheel(home):
    at = datetime(2026, 11, 2, tzinfo=UTC)
    bad = Quarantined(workspace="w", source="f", line=3, error="e", excerpt="", arrived_at=at)
    warehouse.append(home.quarantine, quarantine_table([bad]))
    artifacts.write_parquet(home.pairs / "k" / "pairs.parquet", pa.table({"pair_id": ["p"], "decision": ["ask > act"]}))
    artifacts.write_json(home.policies / "sft-1" / "manifest.json", {"id": "sft-1", "kind": "sft", "weights": "abc"})
    artifacts.write_json(home.policies / "sft-1" / "lineage.json", {"data": {"corpus": "support", "version": 1}})
    artifacts.write_json(home.policies / ".sft-2.x.tmp" / "manifest.json", {"id": "sft-2"})
    artifacts.write_json(
        home.reports / "r1" / "report.json",
        {"id": "r1", "created_at": at, "candidate": "dpo", "success": [{"policy": "dpo", "rate": 0.8}], "more": {}},
    )
    artifacts.write_json(home.cycle / "v1.sft.json", {"key": "v1", "stage": "sft", "started_at": at, "seconds": 2.5})
    assert rows(home, "SELECT source, line FROM quarantine") == [("f", 3)]
    assert rows(home, "SELECT pair_id, decision FROM pairs") == [("p", "ask > act")]
    assert rows(home, "SELECT id, kind, manifest->>'weights', lineage->'data'->>'corpus' FROM policies") == [
        ("sft-1", "sft", "abc", "support")
    ]
    assert rows(home, "SELECT id, created_at, candidate, success->0->>'rate' FROM reports") == [
        ("r1", at, "dpo", "0.8")
    ]
    assert rows(home, "SELECT key, stage, started_at, seconds FROM cycle") == [("v1", "sft", at, 2.5)]


def test_a_folder_that_was_moved_still_answers(week):
    rows(week, "FROM trajectories")
    moved = Home(week.root.with_name("it's moved"))
    shutil.move(week.root, moved.root)
    assert rows(moved, "SELECT count(*) FROM trajectories") == [(12,)]


def test_a_person_may_have_the_catalog_open(week):
    with duckdb.connect(str(catalog.refresh(week))) as person:
        assert person.sql("SELECT count(*) FROM trajectories").fetchall() == [(12,)]
        assert rows(week, "SELECT count(*) FROM outcomes") == [(12,)]
        assert person.sql("SELECT count(*) FROM outcomes").fetchall() == [(12,)]
    assert not list(week.root.glob(".*"))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (x INTEGER)",
        "COPY (SELECT 1) TO 'x.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{captures}/x.csv') FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{captures}/x.csv'",
        "EXPLAIN /* ( */ (ANALYZE) -- SELECT 1\nCOPY (SELECT 1) TO '{captures}/x.csv'",
        "WITH x AS (INSERT INTO trajectories SELECT 1) SELECT 1",
        "ATTACH 'x.duckdb'",
        "SET memory_limit = '1GB'",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "SELECT * FROM read_blob('{root}/keys/team')",
        "SELECT * FROM read_text('{captures}/../keys/team')",
        "SELECT * FROM glob('{root}/**')",
        "SELECT " + "NOT " * 900 + "true",
    ],
)
def test_only_one_reading_statement_of_this_folder_is_run(week, sql):
    week.keys.mkdir()
    (week.keys / "team").write_bytes(b"a secret")
    before = sorted(week.root.rglob("*"))
    with pytest.raises(FlywheelError):
        query(week, sql.format(captures=week.captures, root=week.root))
    assert sorted(week.root.rglob("*")) == before


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN FROM trajectories",
        "explain analyze SELECT 1",
        "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
        "EXPLAIN (SELECT 1)",
        "DESCRIBE steps",
        "SUMMARIZE outcomes",
        "SHOW TABLES",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
        "SELECT id FROM trajectories EXCEPT SELECT '' FROM outcomes",
        "SELECT count(*) FROM read_parquet('{captures}/workspace=*/*/*.parquet')",
    ],
)
def test_whatever_reads_is_run(week, sql):
    assert query(week, sql.format(captures=week.captures)).rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 1000000000))",
        "SELECT levenshtein(id, id) FROM trajectories",
        "SELECT len(range(1000000000))",
        "WITH RECURSIVE r AS (SELECT 'ab' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
    ],
)
def test_what_keeps_to_no_bounds_is_not_run_within_them(week, sql):
    with pytest.raises(FlywheelError, match="ask where the data folder is"):
        query(week, sql, bounds=Bounds())
    assert query(
        week, "SELECT upper(t.id) FROM trajectories AS t JOIN joined ON t.id = trajectory_id", bounds=Bounds()
    ).rows


def test_a_wrong_name_is_answered_with_the_views(week):
    with pytest.raises(FlywheelError, match=r"(?s)nope.*corpus_rows: corpus, version, trajectory_id.*quarantine"):
        query(week, "SELECT nope FROM trajectories")
    with pytest.raises(FlywheelError, match=r"(?s)syntax error.*tool_calls"):
        query(week, "SELEC 1")


def test_a_limit_says_that_there_is_more(week):
    answer = query(week, "SELECT id FROM trajectories ORDER BY id", limit=2)
    assert (answer.rows, answer.more) == ([("t000",), ("t001",)], True)
    assert not query(week, "SELECT id FROM trajectories", limit=12).more


def test_values_are_plain_and_columns_distinct(home):
    answer = query(home, "SELECT sum(x) AS s, 1.5::DECIMAL(4, 1) AS d, 1 AS a, 2 AS a FROM range(4) AS r(x)")
    assert (answer.columns, answer.rows) == (["s", "d", "a", "a_2"], [(6, 1.5, 1, 2)])

"""The catalog: a small DuckDB file of views over the data folder, for people and for `flywheel query`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus import decisions, relations
from flywheel.corpus.manifest import Manifest, folder, load, names, versions
from flywheel.curate.decide import DECISIONS
from flywheel.outcomes.join import JOINED, statement
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

# Where an id was written twice, the row that arrived first stands, as in every snapshot.
FIRST = "QUALIFY row_number() OVER (PARTITION BY {} ORDER BY arrived_at, {}) = 1"

STEPS = """
SELECT trajectory_id, workspace, step_index, step.*
FROM (
    SELECT id AS trajectory_id, workspace, unnest(range(len(steps)))::INTEGER AS step_index, unnest(steps) AS step
    FROM trajectories
)
"""

# The answer to a call is the first later result with its id: ids may repeat within a trajectory.
TOOL_CALLS = """
WITH said AS (
    SELECT id AS trajectory_id, workspace, steps, unnest(range(len(steps)))::INTEGER AS step_index FROM trajectories
),
calls AS (
    SELECT trajectory_id, workspace, step_index, steps[step_index + 2:] AS later,
        unnest(range(len(steps[step_index + 1].tool_calls)))::INTEGER AS call_index,
        unnest(steps[step_index + 1].tool_calls) AS call
    FROM said
),
answered AS (
    SELECT *, list_filter(later, lambda s: s.role = 'tool' AND s.tool_call_id = call.id)[1] AS answer FROM calls
)
SELECT trajectory_id, workspace, step_index, call_index, call.*, answer.content AS result, answer.is_error AS is_error
FROM answered
"""

# Each reason drops what the former ones left, so it is at most three steps from a duplicate to what is kept.
CLUSTERS = """
WITH repeats AS (
    SELECT corpus, version, trajectory_id, reason, detail AS duplicate_of, similarity FROM decisions
    WHERE reason IN ('exact duplicate', 'prefix duplicate', 'same effects', 'near duplicate')
),
ends AS (
    SELECT a.*, coalesce(d.duplicate_of, c.duplicate_of, b.duplicate_of, a.duplicate_of) AS cluster
    FROM repeats AS a
    LEFT JOIN repeats AS b ON (b.corpus, b.version, b.trajectory_id) = (a.corpus, a.version, a.duplicate_of)
    LEFT JOIN repeats AS c ON (c.corpus, c.version, c.trajectory_id) = (b.corpus, b.version, b.duplicate_of)
    LEFT JOIN repeats AS d ON (d.corpus, d.version, d.trajectory_id) = (c.corpus, c.version, c.duplicate_of)
)
SELECT corpus, version, cluster, trajectory_id, reason, similarity FROM ends
UNION ALL SELECT DISTINCT corpus, version, cluster, cluster, NULL, NULL FROM ends
"""

POLICIES = """
SELECT id, made.json->>'kind' AS kind, made.json AS manifest, lineage.json AS lineage
FROM (SELECT parse_path(filename)[-2] AS id, json FROM {}) AS made
LEFT JOIN (SELECT parse_path(filename)[-2] AS id, json FROM {}) AS lineage USING (id)
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What of a data folder somebody may see, by name; `cycle` says whether how long stages took is among it."""

    workspaces: tuple[str, ...]
    corpora: tuple[str, ...]
    trees: tuple[str, ...]
    pairs: tuple[str, ...]
    policies: tuple[str, ...]
    reports: tuple[str, ...]
    cycle: bool

    def folders(self, home: Home) -> list[Path]:
        """The folders that hold it, and nothing else."""
        captured = [
            root / f"workspace={workspace}"
            for root in (home.captures, home.outcomes, home.quarantine)
            for workspace in self.workspaces
        ]
        made = [
            root / name
            for root, names in (
                (home.corpora, self.corpora),
                (home.trees, self.trees),
                (home.pairs, self.pairs),
                (home.policies, self.policies),
                (home.reports, self.reports),
            )
            for name in names
        ]
        return [*captured, *made, *([home.cycle] if self.cycle else [])]


def views(home: Home, seen: Seen | None = None) -> dict[str, str]:
    """The statement behind each view, in the order in which they are made: later ones read earlier ones.

    They hold what is seen, or all that there is.
    """
    trees, pairs, policies = (seen.trees, seen.pairs, seen.policies) if seen else (None, None, None)
    corpora, reports, cycle = (seen.corpora, seen.reports, None if seen.cycle else ()) if seen else (None, None, None)
    return {
        "trajectories": f"SELECT * FROM {_scan(home.captures, TRAJECTORIES, seen)} "
        + FIRST.format("workspace, id", "content_digest, source, source_line"),
        "steps": STEPS,
        "tool_calls": TOOL_CALLS,
        "outcomes": f"SELECT * FROM {_scan(home.outcomes, OUTCOMES, seen)} {FIRST.format('id', 'comment')}",
        "joined": _joined(home, seen),
        "quarantine": f"SELECT * FROM {_scan(home.quarantine, QUARANTINE, seen)}",
        "versions": "SELECT name AS corpus, * EXCLUDE (name) FROM "
        + relations.json(home.corpora, corpora, "/versions/v*.json", relations.MANIFESTS),
        "decisions": _decisions(home, corpora),
        "corpus_rows": "SELECT corpus, version, trajectory_id, split, reward, success, state, row_digest "
        "FROM decisions WHERE kept",
        "clusters": CLUSTERS,
        "trees": f"SELECT * FROM {relations.parquet(home.trees, trees, '/trees.parquet', relations.TREES)}",
        "tree_nodes": f"SELECT * FROM {relations.parquet(home.trees, trees, '/nodes.parquet', relations.NODES)}",
        "pairs": f"SELECT * FROM {relations.parquet(home.pairs, pairs, '/pairs.parquet', relations.PAIRS)}",
        "policies": POLICIES.format(
            relations.objects(home.policies, policies, "/manifest.json"),
            relations.objects(home.policies, policies, "/lineage.json"),
        ),
        "reports": f"SELECT * FROM {relations.json(home.reports, reports, '/report.json', relations.REPORTS)}",
        "cycle": f"SELECT * FROM {relations.json(home.cycle, cycle, '.json', relations.CYCLE)}",
    }


def _scan(root: Path, schema: pa.Schema, seen: Seen | None) -> str:
    """A table's rows of the workspaces that are seen."""
    if seen is None:
        return warehouse.scan_sql(root, schema)
    parts = [f"SELECT * FROM {warehouse.scan_sql(root, schema, workspace)}" for workspace in seen.workspaces]
    return f"({' UNION ALL BY NAME '.join(parts)})" if parts else relations.nothing_of(schema)


def refresh(home: Home) -> Path:
    """Write `flywheel.duckdb` anew, views over what lies in the data folder now, and return its path.

    It holds no rows, so this takes milliseconds; it is built beside its place and renamed, so whoever has the old
    one open goes on undisturbed. The views name absolute paths, and are empty where there was no file: make them
    again when the folder has moved or has its first file of a kind.
    """
    home.root.mkdir(parents=True, exist_ok=True)
    beside = home.root / f".{home.catalog.name}.{uuid.uuid4().hex}.tmp"
    try:
        with warehouse.connect(beside) as connection:
            create(connection, home)
        beside.replace(home.catalog)
    finally:
        beside.unlink(missing_ok=True)
    return home.catalog


def create(connection: duckdb.DuckDBPyConnection, home: Home, seen: Seen | None = None) -> None:
    """Make the views in a connection's database."""
    for name, select in views(home, seen).items():
        connection.sql(f"CREATE VIEW {name} AS {select}")


def _decisions(home: Home, corpora: Sequence[str] | None) -> str:
    """The decisions of every version that has a manifest this release reads."""
    parts = [
        f"SELECT {relations.text(of.name)} AS corpus, {of.version}::INTEGER AS version, trajectory_id AS candidate, * "
        f"FROM {decisions.relation(home, of)}"
        for of in _manifests(home, corpora)
        if all((folder(home, of.name) / path).exists() for path in of.decision_files)
    ]
    nothing = "SELECT NULL::VARCHAR AS corpus, NULL::INTEGER AS version, NULL::VARCHAR AS candidate, * "
    return " UNION ALL ".join(parts) or f"{nothing} FROM {relations.nothing_of(DECISIONS)}"


def _manifests(home: Home, corpora: Sequence[str] | None = None) -> list[Manifest]:
    found = []
    for name in names(home) if corpora is None else corpora:
        for version in versions(home, name):
            with suppress(FlywheelError):
                found.append(load(home, name, version))
    return found


def reward_policies(home: Home) -> dict[str, RewardPolicy]:
    """The reward policy of the newest version made of each workspace that has one."""
    newest = sorted(_manifests(home), key=lambda of: of.created_at)
    return {of.recipe["workspace"]: msgspec.convert(of.recipe["reward_policy"], RewardPolicy) for of in newest}


def _joined(home: Home, seen: Seen | None) -> str:
    """The verdicts as of now, by the reward policy of the newest version made of each workspace, else the default."""
    policies = reward_policies(home)
    folders = sorted(path.name.removeprefix("workspace=") for path in home.captures.glob("workspace=*"))
    folders = [name for name in folders if seen is None or name in seen.workspaces]
    parts = [
        f"SELECT {relations.text(workspace)} AS workspace, * "
        f"FROM ({statement(home, workspace, policies.get(workspace, RewardPolicy()))})"
        for workspace in folders
    ]
    return " UNION ALL ".join(parts) or f"SELECT NULL::VARCHAR AS workspace, * FROM {relations.nothing_of(JOINED)}"

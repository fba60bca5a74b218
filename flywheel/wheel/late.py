"""Late outcomes: whether they changed verdicts on the newest version, asked without changing anything."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

from flywheel import warehouse
from flywheel.corpus.manifest import decisions_path, manifest, manifest_path
from flywheel.curate.spec import spec_of
from flywheel.outcomes.join import joined
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.versions import Version


class Changes(msgspec.Struct, frozen=True):
    """How many verdicts on rows of a version differ now, and when the last outcome arrived."""

    rows: int
    latest: datetime


def exists(home: Home, config: WheelConfig, version: Version) -> bool:
    """Whether a version of the wheel's corpus has been made."""
    return manifest_path(home, config.corpus, version.number).exists()


def state(home: Home, config: WheelConfig) -> str:
    """A short digest of what is stored and what waits in journals: it moves when anything arrives."""
    names = [p.name for p in warehouse.files(home.outcomes, config.workspace)]
    return hashlib.sha256("\n".join([*names, unsettled(home, config)]).encode()).hexdigest()[:16]


def unsettled(home: Home, config: WheelConfig) -> str:
    """A digest of journals' names and sizes; empty when no journal holds anything."""
    journals = sorted(home.journals.glob(f"{config.workspace}/*.jsonl"))
    sizes = [f"{p.name}:{p.stat().st_size}" for p in journals if p.stat().st_size]
    return hashlib.sha256("\n".join(sizes).encode()).hexdigest()[:16] if sizes else ""


def changes(home: Home, config: WheelConfig, version: Version, now: datetime) -> Changes:
    """Verdicts on the version's kept rows that the outcomes known now no longer bear out."""
    decisions = decisions_path(home, config.corpus, version.number)
    policy = spec_of(manifest(home, config.corpus, version.number).recipe).reward_policy
    verdicts = joined(home, config.workspace, policy, now)
    with warehouse.connect() as connection:
        connection.register("verdicts", verdicts)
        [(rows,)] = connection.sql(
            """
            SELECT count(*) FROM read_parquet($decisions) AS d JOIN verdicts AS v USING (trajectory_id)
            WHERE d.kept AND (v.success IS DISTINCT FROM d.success OR v.reward IS DISTINCT FROM d.reward)
            """,
            params={"decisions": str(decisions)},
        ).fetchall()
        [(latest,)] = connection.sql(
            f"SELECT max(arrived_at) FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, config.workspace)}"
        ).fetchall()
    return Changes(rows, (latest or version.as_of).astimezone(UTC))


def arrived(home: Home, config: WheelConfig, after: datetime | None, until: datetime) -> bool:
    """Whether any trajectory or outcome arrived in the half-open interval after..until, or waits in a journal."""
    if unsettled(home, config):
        return True
    since = after or datetime.min.replace(tzinfo=UTC)
    with warehouse.connect() as connection:
        for root, schema in ((home.captures, TRAJECTORIES), (home.outcomes, OUTCOMES)):
            [(count,)] = connection.sql(
                f"""
                SELECT count(*) FROM {warehouse.scan_sql(root, schema, config.workspace)}
                WHERE arrived_at > $since AND arrived_at <= $until
                """,
                params={"since": since, "until": until},
            ).fetchall()
            if count:
                return True
    return False

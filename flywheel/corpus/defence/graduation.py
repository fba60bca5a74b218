"""The defence of a corpus: each version is examined before it graduates, and what is held waits for a person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.corpus.decisions import decisions
from flywheel.corpus.defence.examine import Side, examine
from flywheel.corpus.defence.findings import Verdict, load_policy
from flywheel.corpus.manifest import Manifest, folder, load, versions
from flywheel.curate import derived, prepared
from flywheel.curate.profile import PROFILE, PROFILES
from flywheel.outcomes.ledger import facts
from flywheel.schema import FlywheelError
from flywheel.settings import Home

LIGHT = (
    "id",
    "content_digest",
    "task_group",
    "task_type",
    "agent",
    "agent_version",
    "source",
    "end_state",
    "n_steps",
    "arrived_at",
)

# Rows whose steps are held at once.
BATCH = 4096

# Findings that a refusal names.
NAMED = 3


class Graduation(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that a held version may be trained on. `mark` is that of the verdict that the person saw."""

    corpus: str
    version: int
    mark: str
    by: str
    because: str
    at: datetime


def place(home: Home, of: Manifest) -> Path:
    """Where the verdict on a version lies; its offending rows lie beside it as Parquet."""
    return folder(home, of.name) / "defence" / f"v{of.version}.json"


def verdict(home: Home, of: Manifest) -> Verdict | None:
    """The verdict that stands on a version, None where it was not examined as it is, or by rules of another release."""
    path = place(home, of)
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        found = msgspec.json.decode(path.read_bytes(), type=Verdict)
        return found if found.digest == of.digest else None
    return None


def rows(home: Home, of: Manifest) -> pa.Table:
    """The offending rows of the verdict that stands: rows of `examine.ROWS`."""
    return pq.ParquetFile(artifacts.source(place(home, of).with_suffix(".parquet"))).read()


def audit(home: Home, of: Manifest) -> Verdict:
    """Examine a version, or find its verdict: the same version under the same policy is examined once.

    It is compared with the newest version before it that graduated: what a held version brought in is no part of
    what its successor is measured by. Versions before it that nobody examined are examined first.
    """
    policy = load_policy(home)
    known = verdict(home, of)
    if known and known.policy == policy.hash:
        return known
    parent = _trusted(home, of)
    now = side(home, of)
    found = examine(now, side(home, parent) if parent else None, heard(home, of), policy)
    made = Verdict(
        corpus=of.name,
        version=of.version,
        digest=of.digest,
        parent=parent.version if parent else None,
        policy=policy.hash,
        rows=len(now.trained),
        came_in=found.came_in,
        graduates=found.graduates,
        findings=found.findings,
        judged_at=datetime.now(UTC),
    )
    path = place(home, of)
    artifacts.write_parquet(path.with_suffix(".parquet"), found.rows)
    artifacts.write_json(path, made)
    return made


def _trusted(home: Home, of: Manifest) -> Manifest | None:
    """The newest version before this one, along first parents, that graduated.

    One that cannot be read (its data are gone, or another release made it) did not.
    """
    line: list[Manifest] = []
    there = versions(home, of.name)
    parent = of.parent
    with suppress(FlywheelError):
        while parent in there and parent is not None:
            line.append(load(home, of.name, parent))
            parent = line[-1].parent
    # From the oldest on, so that each is compared with one that was examined before it.
    for one in reversed(line):
        with suppress(FlywheelError):
            if verdict(home, one) is None:
                audit(home, one)
    return next((one for one in line if graduated(home, one)), None)


def graduated(home: Home, of: Manifest) -> bool:
    """Whether a version may be trained on: its verdict lets it, or a person did who saw this verdict."""
    found = verdict(home, of)
    if found is None:
        return False
    return found.graduates or any(g.mark == found.mark for g in graduations(home, of))


def graduations(home: Home, of: Manifest) -> list[Graduation]:
    """What persons said of a version, oldest first."""
    paths = place(home, of).parent.glob(f"v{of.version}.graduated.*.json")
    found = [msgspec.json.decode(path.read_bytes(), type=Graduation) for path in paths if not path.name.startswith(".")]
    return sorted(found, key=lambda g: (g.at, g.by))


def graduate(home: Home, of: Manifest, *, by: str, because: str, at: datetime) -> Graduation:
    """Let a held version be trained on. The word is kept for good, in a file of its own.

    Raises:
        FlywheelError: when it was not examined, is not held, or the person or the reason is missing.
    """
    found = verdict(home, of)
    if found is None:
        raise FlywheelError(f"{of.ref} was not examined yet; look first: flywheel corpus audit {of.ref}")
    if found.graduates:
        raise FlywheelError(f"{of.ref} is not held: nobody's word is needed")
    if not by.strip() or not because.strip():
        raise FlywheelError("say who lets the version graduate (--by NAME), and why (--because TEXT)")
    said = Graduation(corpus=of.name, version=of.version, mark=found.mark, by=by, because=because, at=at)
    who = re.sub(r"[^A-Za-z0-9]+", "-", by)[:40]
    path = place(home, of).parent / f"v{of.version}.graduated.{at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.{who}.json"
    artifacts.write_json(path, said)
    return said


def require_graduated(home: Home, of: Manifest) -> Verdict:
    """The verdict on a version that may be trained on; it is examined now where nobody did.

    Raises:
        FlywheelError: when it is held.
    """
    found = audit(home, of)
    if graduated(home, of):
        return found
    held = [f for f in found.findings if f.level == "hold"]
    named = "; ".join(f"{f.kind}: {f.detail}" for f in held[:NAMED])
    more = f"; and {len(held) - NAMED} more" if len(held) > NAMED else ""
    raise FlywheelError(
        f"{of.ref} is held and must not be trained on: {named}{more}. Look at it: flywheel corpus audit {of.ref}. "
        f"If it is as it should be: flywheel corpus graduate {of.ref} --by NAME --because TEXT"
    )


def side(home: Home, of: Manifest) -> Side:
    """A version as `examine` takes it: decisions, and what was computed once of each captured row."""
    workspace = of.recipe["workspace"]
    captured = derived.opened(home, workspace, prepared.ROWS)
    decided = decisions(home, of)
    profiles = derived.bring(home, workspace, PROFILES).to_table(
        columns=["id", "content_digest", "file", *PROFILE.names]
    )
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        connection.register("captured", prepared.light(captured, of.as_of, LIGHT))
        connection.register("profiles", profiles)
        candidates = connection.sql(
            f"""
            SELECT c.*, d.kept, d.split, d.reason, d.detail, d.reward, d.success, d.state, {", ".join(PROFILE.names)}
            FROM decided AS d JOIN captured AS c ON c.id = d.trajectory_id JOIN (
                SELECT DISTINCT ON (id, content_digest) * FROM profiles ORDER BY id, content_digest, file
            ) AS p ON p.id = c.id AND p.content_digest = c.content_digest
            ORDER BY c.id
            """
        ).pl()
    known = candidates.select("id", "content_digest")

    def texts(ids: pl.Series) -> Iterable[pa.Table]:
        keys = known.filter(pl.col("id").is_in(ids.implode())).to_arrow()
        return prepared.batches(captured, keys, ["id", "steps"], size=BATCH) if keys.num_rows else ()

    return Side(candidates, texts)


def heard(home: Home, of: Manifest) -> pl.DataFrame:
    """The lowest of the latest values that each voice (source, checker version) gave a signal of a trajectory."""
    with warehouse.connect() as connection:
        connection.register("facts", facts(home, of.recipe["workspace"], as_of=of.as_of))
        return connection.sql(
            """
            WITH voices AS (
                SELECT trajectory_id, signal, arg_max(value, (observed_at, arrived_at, id)) AS value FROM facts
                WHERE step_index IS NULL AND isfinite(value)
                GROUP BY trajectory_id, signal, source, checker_version
            )
            SELECT trajectory_id, signal, min(value) AS value FROM voices GROUP BY ALL ORDER BY ALL
            """
        ).pl()

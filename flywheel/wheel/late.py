"""Late outcomes: whether they changed verdicts on the newest version, asked without changing anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from flywheel import warehouse
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Began, Exchanged, SetAside, Spanned, Told, Whole
from flywheel.capture.settling.gathered import IDLE
from flywheel.corpus.decisions import relation
from flywheel.corpus.manifest import manifest, manifest_path
from flywheel.outcomes.join import joined
from flywheel.outcomes.ledger import touched
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.versions import Version, parse


class Unsettled(msgspec.Struct, frozen=True):
    """A short digest of what journals hold, and when they were last written to."""

    digest: str
    latest: datetime


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """How many verdicts on the rows of a version (`of`) differ now, and when outcomes on them arrived since.

    `first` is the earliest that changed one (None where none did), `latest` the last of the whole ledger.
    """

    rows: int
    of: int
    first: datetime | None
    latest: datetime


def waiting(changes: Changes, config: WheelConfig, now: datetime) -> str | None:
    """Why changed verdicts do not make a version yet; None when they do."""
    if changes.first is None:
        return "no verdict on its rows has changed"
    deadline = changes.first + timedelta(hours=config.late_hours)
    if now >= deadline:
        return None
    told = f"{changes.rows} of {changes.of} verdicts have changed; waiting until"
    if changes.rows < config.late_share * changes.of:
        return f"{told} {config.late_share:.2%} have, or {deadline:%Y-%m-%d %H:%M} UTC"
    quiet = timedelta(seconds=config.quiet_seconds)
    return f"{told} outcomes are quiet for {quiet}" if now - changes.latest < quiet else None


def exists(home: Home, config: WheelConfig, version: Version) -> bool:
    """Whether a version of the wheel's corpus has been made, as of its time."""
    if not manifest_path(home, config.corpus, version.number).exists():
        return False
    return manifest(home, config.corpus, version.number).as_of == version.as_of


def newest(home: Home, config: WheelConfig, keys: Iterable[str]) -> Version | None:
    """The newest of the named versions that has been made; one whose run failed before that does not count."""
    return max((v for v in map(parse, keys) if exists(home, config, v)), default=None)


def stored(home: Home, config: WheelConfig) -> str:
    """A short digest of the names of the ledger's files: it moves when an outcome is stored."""
    names = [p.name for p in warehouse.files(home.outcomes, config.workspace)]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def unsettled(home: Home, config: WheelConfig) -> Unsettled | None:
    """What journals hold, told by their names and sizes; None when none holds anything."""
    sizes: list[str] = []
    written: list[float] = []
    for path in journal.paths(home.journals / config.workspace):
        with suppress(FileNotFoundError):  # settled away since it was listed
            found = path.stat()
            if found.st_size:
                sizes.append(f"{path.name}:{found.st_size}")
                written.append(found.st_mtime)
    if not sizes:
        return None
    digest = hashlib.sha256("\n".join(sizes).encode()).hexdigest()[:16]
    return Unsettled(digest, datetime.fromtimestamp(max(written), UTC))


def changes(home: Home, config: WheelConfig, version: Version, now: datetime) -> Changes:
    """Verdicts on the version's kept rows that the outcomes known now no longer bear out."""
    of = manifest(home, config.corpus, version.number)
    with warehouse.connect() as connection:
        ledger = warehouse.scan_sql(home.outcomes, OUTCOMES, config.workspace)
        since = "arrived_at > $as_of AND arrived_at <= $now"
        moments = {"as_of": of.as_of, "now": now}
        # Only what was heard since can undo a verdict that was given.
        only = touched(home, config.workspace, of.as_of, now)
        verdicts = joined(home, config.workspace, of.spec.reward_policy, now, only=only)
        connection.register("verdicts", verdicts)
        [(rows, first)] = connection.sql(
            f"""
            WITH changed AS (
                SELECT trajectory_id FROM {relation(home, of)} AS d JOIN verdicts AS v USING (trajectory_id)
                WHERE d.kept AND (v.success IS DISTINCT FROM d.success OR v.reward IS DISTINCT FROM d.reward)
            )
            SELECT (SELECT count(*) FROM changed), min(arrived_at) FROM {ledger} SEMI JOIN changed USING (trajectory_id)
            WHERE {since}
            """,
            params=moments,
        ).fetchall()
        [(latest,)] = connection.sql(
            f"""
            SELECT max(arrived_at) FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, config.workspace)}
            WHERE arrived_at <= $now
            """,
            params={"now": now},
        ).fetchall()
    latest = (latest or version.as_of).astimezone(UTC)
    return Changes(rows=rows, of=of.rows, first=(first or latest).astimezone(UTC) if rows else None, latest=latest)


def arrived(home: Home, config: WheelConfig, after: datetime | None, until: datetime) -> bool:
    """Whether anything arrived in the half-open interval after..until, stored or still in a journal."""
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
    return any(since < moment <= until for moment in _recorded(home, config))


def _recorded(home: Home, config: WheelConfig) -> Iterator[datetime]:
    """When what the journals hold happened; calls of models, when their conversation is over if no other follows."""
    for path in journal.paths(home.journals / config.workspace):
        with suppress(FileNotFoundError):
            for _, event in journal.read(path)[0]:
                if isinstance(event, Told):
                    yield event.outcome.arrived_at
                elif isinstance(event, Began | Whole):
                    yield event.trajectory.arrived_at
                elif isinstance(event, Exchanged):
                    yield event.exchange.ended_at + IDLE
                elif isinstance(event, Spanned):
                    yield event.at + IDLE
                elif not isinstance(event, SetAside):
                    yield event.at

"""Traces of a person or an episode in what a workspace has captured: rows, ledger, journals and quarantine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture.erasing.subject import pattern
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Began, Closed, Event, Exchanged, SetAside, Spanned, Told, Whole, decoded
from flywheel.capture.journals.held import Held, Place, held
from flywheel.capture.settling import joining
from flywheel.capture.settling.joining import Answer
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES
from flywheel.settings import Home

# One row for each place of a trajectory that goes: a captured row, or its id alone where it stands in a journal or
# only in the ledger. `content_digest` and what follows are of captured rows.
FOUND = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("place", pa.string()),
        ("content_digest", pa.string()),
        ("task_id", pa.string()),
        ("source", pa.string()),
        ("arrived_at", TRAJECTORIES.field("arrived_at").type),
    ]
)

# Columns and fields that say nothing of a person, though their words may be somebody's name.
MUTE = {"workspace", "content_digest", "role", "end_state", "event", "state", "at", "arrived_at", "observed_at"}

LEDGER = ["trajectory_id", "signal", "source", "checker_version", "comment"]
INPUT = ["source", "error", "excerpt"]

# The ids that a line tells which is no event, or not any more.
ID = r'"(?:id|trajectory_id)"\s*:\s*"([^"]*)"'


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who or what is to be forgotten: texts that stand for a person, ids of trajectories, or both."""

    subjects: tuple[str, ...] = ()
    trajectories: tuple[str, ...] = ()

    @property
    def pattern(self) -> str | None:
        """What finds the texts; None where there are none."""
        return pattern(self.subjects) if self.subjects else None


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """Where it stands: `trajectories` are rows of `FOUND`, ordered by id and place; `inputs` keys of the quarantine.

    `counts` has the rows of captures, outcomes and quarantine, the journals' lines, and trajectories in all. `alike`
    are ids of other trajectories, which stay, of the same content as one that goes. `parts` are the exchanges and
    traces that those which go were made of, or that go on from them: nothing may be made of them again.
    """

    trajectories: pa.Table
    inputs: tuple[str, ...]
    counts: dict[str, int]
    alike: tuple[str, ...]
    parts: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The trajectories that go, each once, in order."""
        return sorted(set(self.trajectories["trajectory_id"].to_pylist()))

    def __bool__(self) -> bool:
        return bool(self.trajectories.num_rows or self.inputs or self.counts["journal lines"])


def find(home: Home, workspace: str, asked: Asked) -> Traces:
    """What of a workspace is about whom it is asked. The caller holds the workspace, or looks only.

    A trajectory is found by its id, or by a text anywhere in it (messages, reasoning, tool calls and results,
    metadata, names and ids) or in any outcome that was told of it: it goes whole, with all its outcomes.
    """
    lines = [line for path in journals(home.journals / workspace) for line in _identified(path, asked)]
    with warehouse.connect() as connection:
        connection.register("named", _ids(asked.trajectories))
        connection.register("mentioned", _ids({id for line in lines if line.hit for id in line.about}))
        connection.register("written", _ids({id for line in lines for id in line.about}))
        captures = warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)
        ledger = warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
        quarantine = warehouse.scan_sql(home.quarantine, QUARANTINE, workspace)
        params = {"pattern": asked.pattern} if asked.subjects else None
        said, told, bad = (_said(), _either(LEDGER), _either(INPUT)) if params else ("false",) * 3
        connection.sql(
            f"CREATE TABLE gone AS SELECT id FROM {captures} WHERE id IN (FROM named) OR {said} "
            f"UNION SELECT trajectory_id FROM {ledger} WHERE trajectory_id IN (FROM named) OR {told} "
            "UNION FROM mentioned UNION (FROM named INTERSECT FROM written)",
            params=params,
        )
        connection.sql(f"CREATE TABLE captured AS SELECT * EXCLUDE (steps) FROM {captures} WHERE id IN (FROM gone)")
        connection.sql(f"CREATE TABLE told AS SELECT trajectory_id FROM {ledger} WHERE trajectory_id IN (FROM gone)")
        found = connection.sql(
            """
            SELECT id AS trajectory_id, 'captures' AS place, content_digest, task_id, source, arrived_at FROM captured
            UNION ALL SELECT id, 'journal', NULL, NULL, NULL, NULL FROM (FROM gone INTERSECT FROM written)
            UNION ALL SELECT DISTINCT trajectory_id, 'outcomes', NULL, NULL, NULL, NULL FROM told
            ORDER BY ALL
            """
        ).to_arrow_table()
        alike = connection.sql(
            f"SELECT DISTINCT id FROM {captures} WHERE id NOT IN (FROM gone) "
            "AND content_digest IN (SELECT content_digest FROM captured) ORDER BY id"
        ).fetchall()
        inputs = connection.sql(
            f"SELECT {KEY} AS key FROM {quarantine} WHERE {bad} "
            f"OR list_has_any(regexp_extract_all(excerpt, '{ID}', 1), (SELECT list(id) FROM gone)) ORDER BY key",
            params=params,
        ).fetchall()
        [(outcomes,)] = connection.sql("SELECT count(*) FROM told").fetchall()
        gone = {id for (id,) in connection.sql("FROM gone").fetchall()}
        parts = _parts(lines, gone, [text for (text,) in connection.sql("SELECT metadata FROM captured").fetchall()])
    going = [line for line in lines if line.hit or line.ids & (gone | parts)]
    return Traces(
        trajectories=found.cast(FOUND),
        inputs=tuple(sorted({*(key for (key,) in inputs), *(line.input for line in going if line.input)})),
        counts={
            "trajectories": len(gone),
            "captured rows": found["place"].to_pylist().count("captures"),
            "outcomes": outcomes,
            "journal lines": len(going),
            "quarantined": len(inputs),
        },
        alike=tuple(id for (id,) in alike),
        parts=tuple(sorted(parts - gone)),
    )


class Line(msgspec.Struct, frozen=True):
    """A line of a journal: the trajectories it is `about`, the `ids` with any of which it goes, whether a text that is
    looked for stands in it, and the exchange, or the key of the refused input, that it tells of."""

    about: set[str]
    ids: set[str]
    hit: bool
    exchange: Held | None = None
    input: str | None = None


def _parts(lines: Sequence[Line], gone: set[str], metadata: Iterable[str]) -> set[str]:
    """The exchanges and traces that trajectories which go were made of, and the exchanges that go on from those.

    `metadata` is that of the captured ones. A thread goes with all its exchanges, under whatever name they go on.
    """
    parts: set[str] = set()
    for text in metadata:
        about = msgspec.json.decode(text)
        if isinstance(about, dict) and isinstance(own := about.get("exchanges"), list):
            parts.update(str(id).partition("#")[0] for id in own)
            parts.update({about["trace"]} if isinstance(about.get("trace"), str) else ())
    for thread in joining.threads(line.exchange for line in lines if line.exchange):
        if not gone.isdisjoint({thread.id, *(node.held.thread for node in thread.nodes)}):
            parts.update(node.id for node in thread.nodes)
            continue
        paths = [joining.path_to(Answer(node, 0)) for node in thread.nodes]
        after = [path[-1].node.id for path in paths if any(answer.node.id in parts for answer in path)]
        parts.update(after)
    return parts


# What names a quarantined input, as `Quarantined.key`.
KEY = "concat_ws(chr(31), source, coalesce(line::VARCHAR, ''), error, excerpt)"


def id_of(event: Event) -> str:
    """The trajectory that an event of a journal is about; of exchanges and spans, their thread or trace. A refused
    input has its key."""
    if isinstance(event, Began | Whole):
        return event.trajectory.id
    if isinstance(event, Exchanged):
        return event.exchange.thread
    if isinstance(event, Spanned):
        return event.span.trace
    if isinstance(event, Closed):
        return event.thread
    if isinstance(event, SetAside):
        return event.input.key
    return event.outcome.trajectory_id if isinstance(event, Told) else event.id


def ids_of(event: Event) -> set[str]:
    """All ids by which an event can be erased: an exchange goes with its thread, and with what it goes on from."""
    if isinstance(event, Exchanged):
        return {id_of(event), event.exchange.id, event.exchange.after or event.exchange.id}
    return {id_of(event)}


def journals(folder: Path) -> list[Path]:
    """The journals of a workspace, and the lines that were set aside from them."""
    return sorted([*folder.glob("*.jsonl"), *folder.glob("*.torn")])


def ids_in(line: bytes) -> set[str]:
    """The ids in a line that is no event."""
    return set(re.findall(ID, line.decode("utf-8", "replace")))


def texts(event: Event) -> str:
    """What an event of a journal says: all its texts but those that say nothing of a person."""
    found: list[str] = []
    todo: list[Any] = [msgspec.to_builtins(event)]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += [inner for name, inner in value.items() if name not in MUTE]
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, str):
            found.append(value)
    return "\n".join(found)


def _identified(path: Path, asked: Asked) -> Iterator[Line]:
    """Each line of a journal: whom it is about, and whether a text that is looked for stands in it."""
    found = re.compile(asked.pattern) if asked.pattern else None
    before: dict[str, Held] = {}
    offset = 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        place, offset = Place(path, number, offset, len(line)), offset + len(line) + 1
        if not line or journal.erased(line):
            continue
        event = decoded(line)
        if isinstance(event, str):
            ids, text = ids_in(line), line.decode("utf-8", "replace")
            yield Line(ids, ids, found is not None and found.search(text) is not None)
            continue
        exchange = None
        hit = found is not None and found.search(texts(event)) is not None
        if isinstance(event, SetAside):
            # As in the quarantine: it goes with what its excerpt names, and takes nothing with it.
            yield Line(set(), ids_in(event.input.excerpt.encode()), hit, input=event.input.key)
            continue
        if isinstance(event, Exchanged):
            exchange = held(event.exchange, place, before)
            before.setdefault(exchange.id, exchange)
        yield Line({id_of(event)}, ids_of(event), hit, exchange)


def _ids(ids: Iterable[str]) -> pa.Table:
    return pa.table({"id": pa.array(sorted(ids), pa.string())})


def _said() -> str:
    """Whether the pattern is anywhere in a captured row."""
    plain = [field.name for field in TRAJECTORIES if field.type == pa.string() and field.name not in MUTE]
    call = " OR ".join(_matches(f"c.{name}") for name in ("id", "name", "arguments"))
    step = [_matches(f"s.{name}") for name in ("content", "reasoning", "metadata", "tool_name", "tool_call_id")]
    step.append(f"len(list_filter(s.tool_calls, lambda c: {call})) > 0")
    return f"({_either(plain)} OR len(list_filter(steps, lambda s: {' OR '.join(step)})) > 0)"


def _either(columns: list[str]) -> str:
    return f"({' OR '.join(map(_matches, columns))})"


def _matches(column: str) -> str:
    return f"coalesce(regexp_matches({column}, $pattern), false)"

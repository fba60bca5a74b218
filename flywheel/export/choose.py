"""Choosing: which trajectories go out, with their verdicts, and why others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.corpus import catalog, erased, selection
from flywheel.corpus.catalog import Seen
from flywheel.corpus.defence import graduation
from flywheel.corpus.manifest import Manifest, load, names, versions
from flywheel.corpus.query import Bounds, query
from flywheel.curate import derived, prepared
from flywheel.curate import filter as filters
from flywheel.curate.split import PERCENT, SALT, split_of
from flywheel.outcomes.join import joined
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import OUTCOMES, FlywheelError, Trajectory
from flywheel.settings import Home
from flywheel.views.graded import Graded

Split = Literal["train", "heldout"]

KEYS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("content_digest", pa.string()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
    ]
)

# Rows that are read at once, and of these that are made into records at once.
BATCH, RECORDS = 1024, 64

# Ids that a statement with bounds may give.
MOST = 1_000_000

EVER = datetime(9999, 1, 1, tzinfo=UTC)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out: rows of `KEYS`, ordered by trajectory_id. `said` tells on a card what they were chosen from.

    Of all that was looked at, `left_out` counts what is not among them, by reason.
    """

    workspace: str
    keys: pa.Table
    left_out: dict[str, int]
    said: dict[str, Any]

    def page(self, after: str | None, limit: int | None, by: str = "trajectory_id") -> tuple[Chosen, str | None]:
        """The next so many values of a column that they are ordered by; and the last of these, if more follow."""
        rest = self.keys if after is None else self.keys.filter(pc.field(by) > after)
        values = rest[by].unique()
        if limit is None or len(values) <= limit:
            return msgspec.structs.replace(self, keys=rest), None
        last = values[limit - 1].as_py()
        return msgspec.structs.replace(self, keys=rest.filter(pc.field(by) <= last)), last


def of_version(
    home: Home, of: Manifest, split: Split = "train", where: str | None = None, *, trained: bool = True
) -> Chosen:
    """What a version keeps on one side of the split; `where` is a SQL condition on `filter.COLUMNS`.

    Raises:
        FlywheelError: when its training rows are to be `trained` on and it is held (see `defence.graduation`), the
            condition cannot be read, or the decisions are damaged.
    """
    if trained and split == "train":
        graduation.require_graduated(home, of)
    every = selection.selected(home, of)
    side = every.filter(pc.field("split") == split)
    keys = side if where is None else selection.selected(home, of, split, where)
    other = "held out" if split == "train" else "not held out"
    left_out = {
        "erased since the version was made": of.rows - every.num_rows,
        other: every.num_rows - side.num_rows,
        "the condition": side.num_rows - keys.num_rows,
    }
    said = {
        "corpus": of.name,
        "version": of.version,
        "digest": of.digest,
        "as_of": of.as_of,
        "recipe": of.recipe,
        "candidates": of.candidates,
        "reasons": of.reasons,
        "erasures": [str(note) for note in erased.notes(home, of)],
    }
    return Chosen(
        workspace=of.recipe["workspace"],
        keys=keys.select(KEYS.names).cast(KEYS),
        left_out=_counted(left_out),
        said=said | _asked(split, where=where),
    )


def of_workspace(
    home: Home,
    workspace: str,
    split: Split = "train",
    *,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    sql: str | None = None,
) -> Chosen:
    """The trajectories of a workspace, or those of `ids` (what `sql` gave), as of the last arrival in it.

    The verdicts are by the reward policy of the newest version made of the workspace, else by the default. A
    trajectory is held out where the split of any version made of the workspace holds it out; where there is none, by
    the default split. So nothing that an evaluation may ask gets out by another way.

    Raises:
        FlywheelError: when there is no such workspace, or the condition cannot be read.
    """
    workspaces.require(home, workspace)
    dataset = prepared.bring(home, workspace)
    columns = [name for name in filters.COLUMNS if name in (where or "").lower()]
    own = [name for name in columns if name not in ("trajectory_id", "reward", "success", "state")]
    rows = prepared.light(
        dataset, EVER, list(dict.fromkeys(["id", "content_digest", "task_group", "arrived_at", *own]))
    ).rename_columns({"id": "trajectory_id"})
    left_out: dict[str, int] = {}
    if ids is not None:
        asked = set(ids)
        left_out["named twice"] = len(ids) - len(asked)
        rows = rows.filter(pc.field("trajectory_id").isin(pa.array(sorted(asked), pa.string())))
        left_out["no trajectory of this workspace"] = len(asked) - rows.num_rows
    whole = rows.num_rows
    rows = rows.filter(_on(_sides(home, workspace), rows["task_group"], split))
    left_out["held out" if split == "train" else "not held out"] = whole - rows.num_rows
    policy = catalog.reward_policies(home).get(workspace, RewardPolicy())
    as_of = _last(home, workspace, rows)
    if as_of is not None:
        only = None if ids is None and split == "train" else rows
        verdicts = joined(
            home, workspace, policy, as_of, only=only, columns=("trajectory_id", "state", "reward", "success")
        )
        with warehouse.connect() as connection:
            connection.register("chosen", rows)
            connection.register("verdicts", verdicts)
            rows = connection.sql(
                "SELECT * FROM chosen LEFT JOIN verdicts USING (trajectory_id) ORDER BY trajectory_id"
            ).to_arrow_table()
        if where is not None:
            passing = filters.Candidates(rows).passing(where)
            left_out["the condition"] = int(np.count_nonzero(~passing))
            rows = rows.filter(pa.array(passing))
    keys = rows.select(KEYS.names).cast(KEYS) if as_of is not None else KEYS.empty_table()
    said = {"workspace": workspace, "as_of": as_of, "reward_policy": msgspec.to_builtins(policy)}
    return Chosen(
        workspace=workspace, keys=keys, left_out=_counted(left_out), said=said | _asked(split, where=where, sql=sql)
    )


def by_task(home: Home, chosen: Chosen) -> Chosen:
    """The same, ordered by task and then by id, with a column `task_id`."""
    dataset = derived.opened(home, chosen.workspace, prepared.ROWS)
    with warehouse.connect() as connection:
        connection.register("chosen", chosen.keys)
        connection.register("rows", prepared.light(dataset, EVER, ["id", "content_digest", "task_id"]))
        keys = connection.sql(
            "SELECT c.*, r.task_id FROM chosen AS c LEFT JOIN rows AS r ON r.id = c.trajectory_id "
            "ORDER BY r.task_id, c.trajectory_id"
        ).to_arrow_table()
    return msgspec.structs.replace(chosen, keys=keys)


def graded(home: Home, chosen: Chosen) -> Iterator[Graded]:
    """The records of what was chosen, in order; few are held at once.

    Raises:
        FlywheelError: when their content is missing or damaged.
    """
    if not chosen.keys.num_rows:
        return
    dataset = derived.opened(home, chosen.workspace, prepared.ROWS)
    named = chosen.keys.select(["trajectory_id", "content_digest"]).rename_columns(["id", "content_digest"])
    verdicts = zip(chosen.keys["reward"].to_pylist(), chosen.keys["success"].to_pylist(), strict=True)
    try:
        for table in prepared.batches(dataset, named, Trajectory.__struct_fields__, size=BATCH):
            # Nested columns become objects, which take far more room than the table: a few at a time.
            for batch in table.to_batches(max_chunksize=RECORDS):
                for row, (reward, success) in zip(batch.to_pylist(), verdicts, strict=False):
                    yield Graded(trajectory=msgspec.convert(row, Trajectory), reward=reward, success=success)
    except (OSError, ValueError) as error:
        raise FlywheelError(
            f"the content of workspace {chosen.workspace!r} cannot be read ({str(error).splitlines()[0]}); make it "
            "again from the captures with: flywheel corpus rebuild NAME@vN"
        ) from error


def ids(home: Home, sql: str, seen: Seen | None = None, bounds: Bounds | None = None) -> list[str]:
    """The ids that a statement over the catalog gives, of what is `seen`: its column trajectory_id, or its only one.

    Raises:
        FlywheelError: when the statement cannot be read, takes more than its bounds, or gives no such column.
    """
    answer = query(home, sql, MOST if bounds else None, seen=seen, bounds=bounds)
    if answer.more:
        raise FlywheelError(f"the statement gives more than {MOST:,} rows; ask for fewer, or by a condition")
    column = "trajectory_id" if "trajectory_id" in answer.columns else answer.columns[0]
    if column != "trajectory_id" and len(answer.columns) > 1:
        raise FlywheelError(f"the statement must give trajectory_id; it gives {', '.join(answer.columns)}")
    at = answer.columns.index(column)
    return [str(row[at]) for row in answer.rows if row[at] is not None]


def checked_split(split: str) -> Split:
    """One side of the split, by name."""
    if split not in ("train", "heldout"):
        raise FlywheelError(f"there is no split {split!r}; it is train or heldout")
    return split


def _sides(home: Home, workspace: str) -> set[tuple[int, str]]:
    """How the versions made of a workspace split it."""
    found: set[tuple[int, str]] = set()
    for name in names(home):
        for version in versions(home, name):
            with suppress(FlywheelError):
                recipe = load(home, name, version).recipe
                if recipe["workspace"] == workspace:
                    found.add((recipe["holdout_percent"], recipe["holdout_salt"]))
    return found or {(PERCENT, SALT)}


def _on(sides: set[tuple[int, str]], groups: pa.ChunkedArray, split: Split) -> pa.Array:
    """Which task groups are on a side of the split."""
    found = groups.combine_chunks().dictionary_encode()
    held = [any(split_of(g, *side) == "heldout" for side in sides) for g in found.dictionary.to_pylist()]
    return pa.array(np.array([one == (split == "heldout") for one in held], np.bool_)[found.indices.to_numpy()])


def _last(home: Home, workspace: str, rows: pa.Table) -> datetime | None:
    """When an outcome of a workspace, or one of some rows, last arrived; None where there are no rows."""
    if not rows.num_rows:
        return None
    with warehouse.connect() as connection:
        connection.register("chosen", rows)
        scan = warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
        last = f"SELECT max(arrived_at) FROM (SELECT arrived_at FROM {scan} UNION ALL SELECT arrived_at FROM chosen)"
        return connection.sql(last).fetchall()[0][0].astimezone(UTC)


def _asked(split: Split, **given: str | None) -> dict[str, Any]:
    return {"split": split} | {name: value for name, value in given.items() if value is not None}


def _counted(left_out: dict[str, int]) -> dict[str, int]:
    return dict(Counter({reason: count for reason, count in left_out.items() if count}))

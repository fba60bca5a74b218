"""Decisions brought up to a later time: only what can have changed since an earlier version is decided again."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate.decide import DECISIONS, decide
from flywheel.curate.kinship import Kin
from flywheel.curate.spec import Caps, Spec
from flywheel.outcomes.join import sql_moment
from flywheel.schema import arrival_day
from flywheel.settings import Home

# Beyond this share of the candidates it is cheaper, and as right, to decide them all.
LARGEST_SHARE = 0.2
FEW = 64


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was decided: its recipe and as-of time, the files it read (paths in the data folder), and its
    decisions as a SQL relation of `DECISIONS`."""

    recipe_hash: str
    as_of: datetime
    inputs: frozenset[str]
    decisions: str


def update(home: Home, spec: Spec, as_of: datetime, before: Standing) -> pa.Table | None:
    """The decisions as of a later time that are not those of an earlier version, ordered by trajectory_id.

    Equal to what `decide` gives for all candidates: a decision hangs on a row's own outcomes and on what it may repeat.
    So these are decided again: what files that are new say something of, what was pending, what in files that were read
    had not arrived, and, from row to row, all that shares content, a conversation's beginning, effects or a bucket with
    one of them. None where all must be decided: another recipe or an earlier time, a file that is gone, a cap (in
    which every row of its group has a part), or so many rows that nothing would be saved.
    """
    if spec.recipe_hash != before.recipe_hash or as_of < before.as_of or spec.caps != Caps():
        return None
    with warehouse.connect() as connection:
        touched = _touched(home, spec.workspace, as_of, before)
        if touched is None:
            return None
        connection.register("touched", touched)
        asked = connection.sql(
            "SELECT trajectory_id FROM touched UNION "
            f"SELECT trajectory_id FROM {before.decisions} WHERE state = 'pending'"
        ).to_arrow_table()
        if not asked.num_rows:
            return DECISIONS.empty_table()
        only = Kin(home, spec).of(asked["trajectory_id"], LARGEST_SHARE, FEW)
        if only is None:
            return None
        connection.register("decided", decide(home, spec, as_of, only=only))
        changed = connection.sql(
            f"""
            WITH known AS (SELECT decision_digest FROM {before.decisions} SEMI JOIN decided USING (decision_digest))
            SELECT d.* FROM decided AS d ANTI JOIN known USING (decision_digest) ORDER BY trajectory_id
            """
        )
        return changed.to_arrow_table().cast(DECISIONS)


def _touched(home: Home, workspace: str, as_of: datetime, before: Standing) -> pa.Table | None:
    """The trajectories of which something arrived that the earlier version had not read; None where a file is gone."""
    found, parts = set(), ["SELECT NULL::VARCHAR AS trajectory_id WHERE false"]
    last = f"day={arrival_day(as_of).isoformat()}"
    for root, name in ((home.captures, "id"), (home.outcomes, "trajectory_id")):
        new, open_then = [], []
        for path in warehouse.files(root, workspace):
            known = str(path.relative_to(home.data)) in before.inputs
            found.add(str(path.relative_to(home.data)))
            if path.parent.name > last:
                continue
            if not known:
                new.append(path)
            elif path.parent.name >= f"day={arrival_day(before.as_of).isoformat()}":
                open_then.append(path)
        arrived = f"arrived_at <= {sql_moment(as_of)}"
        since = f"{arrived} AND arrived_at > {sql_moment(before.as_of)}"
        read = [(new, arrived), (open_then, since)]
        parts += [f"SELECT {name} FROM {_scan(files)} WHERE {when}" for files, when in read if files]
    if not before.inputs <= found:
        return None
    with warehouse.connect() as connection:
        return connection.sql(" UNION ".join(parts)).to_arrow_table()


def _scan(files: list[Path]) -> str:
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{names}], hive_partitioning=false, union_by_name=true)"

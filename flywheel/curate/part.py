"""A part of what was captured, read as if there were nothing else: some rows, at known places of the derived tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel import warehouse
from flywheel.curate import prepared
from flywheel.curate.spec import Spec
from flywheel.curate.words import Numbers
from flywheel.outcomes.join import CANDIDATES, JOINED, sql_moment, statement
from flywheel.schema import OUTCOMES, TIMESTAMP
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset


class Part(NamedTuple):
    """Some captured rows: all of a few ids.

    `places` are their offsets in `rows`, the table of prepared rows as it was opened; `printed` those in `prints`, the
    table of fingerprints, where there is one.
    """

    rows: LanceDataset
    places: Numbers
    prints: LanceDataset | None
    printed: Numbers

    def ids(self) -> pa.Table:
        """The ids, each once: a table with a column trajectory_id, ascending."""
        with warehouse.connect() as connection:
            connection.register("rows", prepared.placed(self.rows, self.places, ["id"]))
            return connection.sql("SELECT DISTINCT id AS trajectory_id FROM rows ORDER BY id").to_arrow_table()

    def joined(self, home: Home, spec: Spec, as_of: datetime, candidates: pa.Table) -> pa.Table:
        """The verdicts on candidates among the rows, as `join.joined` gives them; the ledger is read once."""
        with warehouse.connect() as connection:
            connection.register("ids", self.ids())
            ledger = warehouse.scan_sql(home.outcomes, OUTCOMES, spec.workspace)
            connection.sql(f"CREATE TABLE ledger AS SELECT * FROM {ledger} SEMI JOIN ids USING (trajectory_id)")
            connection.register("candidates", candidates.select(CANDIDATES.names))
            relations = {"candidates": "candidates", "ledger": "ledger"}
            query = statement(home, spec.workspace, spec.reward_policy, sql_moment(as_of), **relations)
            return connection.sql(query).to_arrow_table().cast(JOINED)

    def light(self, as_of: datetime, columns: Sequence[str]) -> pa.Table:
        """Columns of the trajectories that had arrived by `as_of`, as `prepared.light` gives them."""
        rows = prepared.placed(self.rows, self.places, prepared.arriving(columns))
        return prepared.first_arrivals(rows.filter(pc.field("arrived_at") <= pa.scalar(as_of, TIMESTAMP)), columns)

    def batches(self, keys: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of `keys` (id, content_digest) in their order, a few at a time, as `prepared.batches` gives them."""
        with warehouse.connect() as connection:
            rows = prepared.placed(self.rows, self.places, ["id", "content_digest"])
            connection.register("rows", rows.append_column("place", pa.array(self.places)))
            connection.register("keys", keys.append_column("number", pa.array(np.arange(len(keys)))))
            # Of equal rows that arrived more than once, one is as good as another.
            found = connection.sql(
                "SELECT any_value(place) AS place FROM keys JOIN rows USING (id, content_digest) "
                "GROUP BY number ORDER BY number"
            ).to_arrow_table()
        places = found["place"].to_numpy()
        for start in range(0, len(places), prepared.SIZE):
            yield prepared.placed(self.rows, places[start : start + prepared.SIZE], columns)

    def fingerprints(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the fingerprints of the rows."""
        assert self.prints is not None
        return prepared.placed(self.prints, self.printed, columns)

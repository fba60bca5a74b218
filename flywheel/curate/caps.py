"""Caps: no task, no source and no version of an agent has more than its share of the training rows."""

from __future__ import annotations

import pyarrow as pa

from flywheel import warehouse
from flywheel.curate.spec import Caps

CAPPED = pa.schema([("trajectory_id", pa.string()), ("detail", pa.string())])


def capped(candidates: pa.Table, caps: Caps) -> pa.Table:
    """The training rows that are more than the caps allow, as rows of `CAPPED` ordered by trajectory_id.

    `candidates` are the rows that are kept so far: trajectory_id, task_id, source, agent, agent_version, split and
    rank (distinct; of each task, source and agent version the least stay). The caps are applied one after the other,
    in this order: a row that its task's cap drops takes no place of its source, and one that its source's cap drops
    none of its agent's version. So every cap holds in the end, though a source may end below its own. Held-out rows are
    neither dropped nor counted. `detail` says how many are kept of what.
    """
    groups = (
        (caps.per_task, "task_id", "'task ' || task_id"),
        (caps.per_source, "source", "'source ' || source"),
        (caps.per_agent_version, "agent, agent_version", "concat_ws(' ', 'agent', agent, nullif(agent_version, ''))"),
    )
    found = [CAPPED.empty_table()]
    with warehouse.connect() as connection:
        connection.register("candidates", candidates)
        connection.sql("CREATE TABLE kept AS SELECT * FROM candidates WHERE split = 'train'")
        for cap, group, name in groups:
            if cap is None:
                continue
            over = connection.sql(
                f"""
                SELECT trajectory_id, '{cap} of ' || {name} || CASE WHEN {cap} = 1 THEN ' is' ELSE ' are' END || ' kept'
                    AS detail
                FROM kept QUALIFY row_number() OVER (PARTITION BY {group} ORDER BY rank) > {cap}
                """
            ).to_arrow_table()
            found.append(over.cast(CAPPED))
            connection.register("over_cap", over)
            connection.sql("DELETE FROM kept WHERE trajectory_id IN (SELECT trajectory_id FROM over_cap)")
        return pa.concat_tables(found).sort_by("trajectory_id")

"""The content of a version: the rows that decisions keep, and the digests that name rows and decisions."""

from __future__ import annotations

import hashlib
from datetime import datetime

import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.corpus import store
from flywheel.corpus.manifest import Manifest, decisions_path
from flywheel.outcomes.join import first_arrivals, sql_moment
from flywheel.settings import Home


def kept_rows(home: Home, workspace: str, as_of: datetime, decided: pa.Table) -> pa.Table:
    """The captured rows of the candidates that are kept, with their verdicts: rows of `store.ROWS`, ordered by id."""
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        return (
            connection.sql(
                f"""
                SELECT a.*, d.reward, d.success, d.split, d.state, d.row_digest
                FROM {first_arrivals(home, workspace, sql_moment(as_of))} AS a
                JOIN decided AS d ON d.trajectory_id = a.id WHERE d.kept ORDER BY a.id
                """
            )
            .to_arrow_table()
            .select(store.ROWS.names)
            .cast(store.ROWS)
        )


def content_digest(row_digests: pa.ChunkedArray) -> str:
    """SHA-256 over the sorted digests of rows: it knows nothing of their order, of machines or of clocks."""
    return hashlib.sha256("\n".join(sorted(row_digests.to_pylist())).encode()).hexdigest()


def decisions_digest(decided: pa.Table) -> str:
    """SHA-256 over every candidate's decision, in order of trajectory_id."""
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        [(digest,)] = connection.sql(
            "SELECT sha256(coalesce(string_agg(to_json(d)::VARCHAR, chr(10) ORDER BY trajectory_id), '')) "
            "FROM decided AS d"
        ).fetchall()
    return digest


def write_decisions(home: Home, of: Manifest, decided: pa.Table) -> None:
    """Write the decisions of a version, each with corpus and version beside it."""
    table = pa.table(
        {
            "corpus": pa.repeat(of.name, decided.num_rows),
            "version": pa.repeat(pa.scalar(of.version, pa.int32()), decided.num_rows),
            **{column: decided[column] for column in decided.column_names},
        }
    )
    artifacts.write_parquet(decisions_path(home, of.name, of.version), table)

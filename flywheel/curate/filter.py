"""Filters: SQL expressions over a candidate's columns that can do nothing but say yes or no to each row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from functools import cache
from threading import Lock
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from flywheel import warehouse
from flywheel.schema import FlywheelError

COLUMNS = (
    "reward",
    "success",
    "state",
    "task_type",
    "task_id",
    "task_group",
    "agent",
    "agent_version",
    "model",
    "provider",
    "end_state",
    "n_steps",
    "arrived_at",
    "started_at",
    "source",
    "trajectory_id",
)

# Of what has no fixed size, functions may be used that make little more of it than they are given: what is written in
# a few characters, such as repeat(model, 1000000000), could else take all memory of a server.
FIXED = "(BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL|DATE|TIME.*|INTERVAL|UUID)"
MODEST = (
    *("+", "-", "add", "subtract", "&", "|", "~", "<<", ">>", "xor", "||", "concat", "greatest", "least"),
    *("lower", "lcase", "upper", "ucase", "trim", "ltrim", "rtrim", "reverse", "strip_accents", "md5", "sha256"),
    *("substring", "substr", "left", "right", "split", "str_split", "string_split", "regexp_extract"),
    *("list_value", "list_extract", "list_element", "array_extract", "strftime", "dayname", "monthname", "date_part"),
)
# Those that know what day it is, and those that take the product of two lengths.
NEVER = (
    *("age", "current_localtime", "current_localtimestamp"),
    *("levenshtein", "editdist3", "damerau_levenshtein", "jaro_similarity", "jaro_winkler_similarity"),
)


def passes(candidates: pa.Table, expression: str) -> pa.Table:
    """Whether each candidate passes: columns trajectory_id and passes (null counts as no), in their order.

    Only the columns of `COLUMNS` and functions that depend on nothing else may be named, so the answer for a
    row is the same on every day and beside any other rows.

    Raises:
        FlywheelError: when the expression cannot be read, names something else, or is not true or false.
    """
    passing = Candidates(candidates).passing(expression)
    return pa.table({"trajectory_id": candidates["trajectory_id"], "passes": passing})


class Candidates:
    """Candidates (rows with columns of `COLUMNS`, as many as are asked of) held to be asked any number of times."""

    def __init__(self, given: pa.Table) -> None:
        self._open = ExitStack()
        self._connection = self._open.enter_context(warehouse.connect(alone=True))
        self._connection.register(
            "candidates",
            given.select([name for name in COLUMNS if name in given.column_names]).append_column(
                "place", pa.array(np.arange(len(given)))
            ),
        )
        self._connection.sql("SET enable_external_access = false")
        self._connection.sql("SET lock_configuration = true")
        self._lock = Lock()

    def passing(self, expression: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each candidate passes, in their order; as `passes` says."""
        with self._lock:
            check(self._connection, expression)
            try:
                answers = self._connection.sql(f"SELECT place, ({expression}\n) AS passes FROM candidates")
                if answers.types[1] != "BOOLEAN":
                    raise _refused(expression, f"it gives a {answers.types[1]}, not true or false")
                found = answers.project("place, coalesce(passes, false) AS passes").to_arrow_table()
            except duckdb.Error as error:
                raise _refused(expression, str(error).splitlines()[0]) from error
        passing = np.zeros(len(found), np.bool_)
        passing[found["place"].to_numpy()] = found["passes"].to_numpy()
        return passing


def check(connection: duckdb.DuckDBPyConnection, expression: str, columns: Collection[str] = COLUMNS) -> None:
    """Refuse all but one expression of known columns and functions that are pure.

    Raises:
        FlywheelError: it says what has no place in a condition, and which columns there are.
    """
    text = connection.execute("SELECT json_serialize_sql($q)", {"q": f"SELECT ({expression}\n)"}).fetchall()[0][0]
    try:
        parsed = msgspec.json.decode(text)
    except RecursionError:
        raise _refused(expression[:100], "it is nested too deeply", columns) from None
    if parsed["error"]:
        raise _refused(expression, parsed["error_message"], columns)
    found = [statement["node"] for statement in parsed["statements"]]
    if len(found) != 1 or found[0]["type"] != "SELECT_NODE" or len(found[0]["select_list"]) != 1:
        raise _refused(expression, "it is not one expression", columns)
    allowed = pure()
    for node in nodes(found[0]):
        kind = node.get("class")
        if kind in ("SUBQUERY", "WINDOW", "STAR", "LAMBDA", "PARAMETER"):
            why = f"a filter looks at one row at a time; {kind.lower()} has no place in it"
            raise _refused(expression, why, columns)
        if kind == "FUNCTION" and node["function_name"].lower() not in allowed:
            raise _refused(expression, f"the function {node['function_name']} may not be used in a filter", columns)
        if kind == "COLUMN_REF" and node["column_names"][-1].lower() not in columns:
            raise _refused(expression, f"there is no column {'.'.join(node['column_names'])}", columns)
    if found[0]["from_table"]["type"] != "EMPTY":
        raise _refused(expression, "it names a table", columns)


@cache
def pure() -> frozenset[str]:
    """The functions whose answer depends on what they are given alone, and is little more than that."""
    with warehouse.connect() as connection:
        rows = connection.execute(
            """
            SELECT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND function_name NOT IN $never
            GROUP BY function_name
            HAVING bool_and(stability = 'CONSISTENT')
                AND (bool_and(regexp_full_match(return_type, $fixed)) OR function_name IN $modest)
            """,
            {"never": NEVER, "fixed": FIXED, "modest": MODEST},
        ).fetchall()
    return frozenset(name for (name,) in rows)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parsed statement."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _refused(expression: str, why: str, columns: Collection[str] = COLUMNS) -> FlywheelError:
    return FlywheelError(f"filter {expression!r}: {why}. Write a condition on: {', '.join(columns)}")

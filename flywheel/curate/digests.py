"""Digests of conversations: what was done in one, and how it begins."""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from flywheel import warehouse

SCHEMA = pa.schema([("effects", pa.string()), ("chain", pa.list_(pa.int64()))])

Bounds = np.ndarray[Any, np.dtype[np.int64]]


def _part(column: str) -> str:
    """SQL for a text that says how long it is, so that texts after one another cannot be read in two ways."""
    return f"coalesce(strlen({column}) || ':' || {column}, '-')"


_SAID = f"{_part('name')} || {_part('arguments')}"

_CALLED = f"'call' || {_part('name')} || {_part('canonical')}"

_STATE = """
CASE WHEN role = 'tool' AND contains(metadata, '"state"') AND json_valid(metadata)
    THEN json_extract(metadata, '$.state')::VARCHAR END
"""

# MD5, and not DuckDB's hash: equal on every machine and in every release.
_NUMBER = f"""
md5_number_lower(place || '|' || {_part("role")} || {_part("content")} || {_part("reasoning")} || {_part("tool_name")}
    || coalesce(is_error::INTEGER::VARCHAR, '-') || array_to_string(said, ''))
"""

_DONE = f"array_to_string(called, '') || CASE WHEN state IS NULL THEN '' ELSE 'state' || {_part('state')} END"


def effects_and_chain(conversations: pa.ChunkedArray) -> pa.Table:
    """`effects` and `chain` (`SCHEMA`) of each trajectory's steps.

    `effects` is MD5 over what was done: the tool calls in order, each its name and its arguments as canonical JSON (as
    they stand where they are none), and the `state` that the metadata of tool results names; null where nothing was
    called. `chain` has a number a step: A is a prefix of B exactly when A.chain[-1] == B.chain[len(A.chain) - 1]. Each
    is the sum, modulo 2^64, of 64 bits of MD5 over place and content of the steps so far: a fold without a loop.
    Content is what `schema.content_digest` takes of a step.
    """
    lists = conversations.combine_chunks()
    steps = lists.flatten()
    bounds = _bounds(lists)
    calls = steps.field("tool_calls").flatten()
    call_bounds = _bounds(steps.field("tool_calls"))
    with warehouse.connect() as connection:

        def ask(query: str, **columns: Any) -> pa.Table:
            connection.register("given", pa.table(columns))
            return connection.sql(f"SELECT {query} FROM given").to_arrow_table()

        arguments = calls.field("arguments")
        canonical = _canonical(connection, arguments)
        words = ask(
            f"{_SAID} AS said, {_CALLED} AS called",
            name=calls.field("name"),
            arguments=arguments,
            canonical=canonical,
        )
        states = ask(f"{_STATE} AS state", role=steps.field("role"), metadata=steps.field("metadata"))["state"]
        told = ask(
            f"{_NUMBER} AS number, {_DONE} AS done",
            **{name: steps.field(name) for name in ("role", "content", "reasoning", "tool_name", "is_error")},
            place=np.arange(len(steps)) - np.repeat(bounds[:-1], np.diff(bounds)),
            said=_lists(call_bounds, words["said"]),
            called=_lists(call_bounds, words["called"]),
            state=_canonical(connection, states.combine_chunks()),
        )
        effects = ask(
            "CASE WHEN acts THEN md5(array_to_string(done, '')) END AS effects",
            acts=np.diff(call_bounds[bounds]) > 0,
            done=_lists(bounds, told["done"]),
        )["effects"]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(told["number"].to_numpy(), dtype=np.uint64)])
    chain = (sums[1:] - np.repeat(sums[bounds[:-1]], np.diff(bounds))).view(np.int64)
    return pa.table({"effects": effects, "chain": _lists(bounds, pa.chunked_array([pa.array(chain)]))}).cast(SCHEMA)


_ENCODER = msgspec.json.Encoder(order="sorted")

_NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)


def _canonical(connection: duckdb.DuckDBPyConnection, texts: pa.Array) -> pa.Array:
    """Texts that are JSON with sorted keys and no spaces; others, and nulls, as they are."""
    encoded = texts.dictionary_encode()
    connection.register("texts", pa.table({"text": encoded.dictionary}))
    distinct = connection.sql("SELECT text, json_valid(text) AS valid FROM texts").to_arrow_table()
    valid = distinct["valid"].to_numpy()
    given = distinct["text"].filter(distinct["valid"]).to_pylist()
    try:
        # All of them in one pass; one that only DuckDB takes for JSON sends each its own way, to the same texts.
        lines = _ENCODER.encode_lines(msgspec.json.decode(f"[{','.join(given)}]")).decode().split("\n")[:-1]
    except _NOT_JSON:
        lines = [canonical_text(text) for text in given]
    places = np.where(valid, np.cumsum(valid) - 1, len(lines) + np.arange(len(valid)))
    known = pa.chunked_array([pa.array(lines, pa.string()), encoded.dictionary.cast(pa.string())])
    return known.take(pa.array(places)).combine_chunks().take(encoded.indices)


def canonical_text(text: str) -> str:
    """A text that is JSON with sorted keys and no spaces; another as it is."""
    try:
        return _ENCODER.encode(msgspec.json.decode(text)).decode()
    except _NOT_JSON:
        return text


def _bounds(lists: pa.Array) -> Bounds:
    """Where each list begins among the flattened values, and where the last one ends."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _lists(bounds: Bounds, values: pa.ChunkedArray) -> pa.Array:
    """Values as lists between bounds."""
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values.combine_chunks())

"""Conversations packed one to a value: the steps of a trajectory as bytes that are read at one place, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.curate.words import Numbers, spread
from flywheel.schema import STEP, TIMESTAMP, TOOL_CALL

# A conversation is little-endian words of 32 bits, then text, filled up to whole words:
#
#     how many steps, calls, numbers of steps, numbers of calls | a mask for each step | a mask for each call
#     | the numbers of steps | the numbers of calls | the texts of steps | the texts of calls
#
# A mask says which of its record's slots hold a number: of a text its bytes, of 64 bits the lower and the upper half
# (left out where it is 0), of calls how many. What a mask leaves out is null.
PACKED = pa.large_binary()

_TEXTS = tuple(field.name for field in STEP if field.type == pa.string())
_WHOLE = tuple(field.name for field in STEP if field.type in (pa.int64(), TIMESTAMP))
_CALL_TEXTS = tuple(field.name for field in TOOL_CALL)
_CALLS = len(_TEXTS) + 2 * len(_WHOLE)
_SLOTS = _CALLS + 1
# Flags beyond the slots, which hold no number.
_IS_TRUE, _IS_FALSE, _IS = (1 << (_SLOTS + bit) for bit in range(3))
_CALL_IS = 1 << len(_CALL_TEXTS)

_WORD = np.dtype("<i4")
_PADDING = [b"\0" * size for size in range(_WORD.itemsize)]

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Words = np.ndarray[Any, np.dtype[np.int32]]


def packed(conversations: pa.ChunkedArray) -> pa.Array:
    """Lists of `schema.STEP`, each as one value of `PACKED`; a null stays a null."""
    lists = conversations.combine_chunks()
    steps = lists.flatten()
    fields = dict(zip(STEP.names, steps.flatten(), strict=True))
    called = fields["tool_calls"]
    calls = called.flatten()
    n_steps, n_calls = _sizes(lists), _sizes(called)

    texts = [fields[name] for name in _TEXTS]
    slots = np.zeros((len(steps), _SLOTS), _WORD)
    there = np.zeros((len(steps), _SLOTS), np.bool_)
    slots[:, : len(_TEXTS)], there[:, : len(_TEXTS)] = _lengths(texts, len(steps))
    for number, name in enumerate(_WHOLE):
        low = len(_TEXTS) + 2 * number
        values = fields[name].cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        slots[:, low : low + 2] = values.astype("<i8").view(_WORD).reshape(-1, 2)
        there[:, low] = _valid(fields[name])
        there[:, low + 1] = slots[:, low + 1] != 0
    slots[:, _CALLS], there[:, _CALLS] = n_calls, _valid(called)
    masks = _mask(there) | np.where(_valid(steps), _IS, 0)
    for value, flag in ((True, _IS_TRUE), (False, _IS_FALSE)):
        # Null is neither.
        masks |= np.where(fields["is_error"].fill_null(not value).to_numpy(zero_copy_only=False) == value, flag, 0)

    call_texts = calls.flatten()
    call_slots, call_there = _lengths(call_texts, len(calls))
    call_masks = _mask(call_there) | np.where(_valid(calls), _CALL_IS, 0)

    bounds = _bounds(n_steps)
    call_bounds = _bounds(n_calls)[bounds]
    return _laid(
        valid=_valid(lists),
        words=[
            (n_steps, masks),
            (np.diff(call_bounds), call_masks),
            (_within(there.sum(axis=1), bounds), slots[there]),
            (_within(call_there.sum(axis=1), call_bounds), call_slots[call_there]),
        ],
        texts=[
            (texts, there[:, : len(_TEXTS)], bounds),
            (call_texts, call_there, call_bounds),
        ],
    )


def _laid(
    valid: Mask,
    words: list[tuple[Numbers, np.ndarray[Any, Any]]],
    texts: list[tuple[list[pa.Array], Mask, Numbers]],
) -> pa.Array:
    """Conversations of their parts: words (how many of each, all of them), and texts (columns, which are there)."""
    rows = len(valid)
    sizes = np.stack([size for size, _ in words])
    heads = _bounds(len(words) + sizes.sum(axis=0))
    laid = np.empty(heads[-1], _WORD)
    at = heads[:-1].copy()
    for size in sizes:
        laid[at] = size
        at += 1
    for size, own in words:
        laid[spread(at, size)] = own
        at += size

    # All values that follow one another in the end, in a pool, and the order in which they do.
    pool = [_binary(_WORD.itemsize * heads, pa.py_buffer(laid.data)), pa.array(_PADDING, PACKED)]
    padding = rows
    pooled = rows + len(_PADDING)
    lengths = np.zeros(rows, np.int64)
    parts: list[tuple[Numbers, Numbers]] = [(np.ones(rows, np.int64), np.arange(rows))]
    for columns, there, bounds in texts:
        count = len(there)
        own = np.arange(count)[:, None] + count * np.arange(len(columns))[None, :]
        parts.append((_within(there.sum(axis=1), bounds), pooled + own[there]))
        for column in columns:
            pool.append(column.cast(PACKED))
            lengths += _within(_length(column), bounds)
        pooled += count * len(columns)
    parts.append((np.ones(rows, np.int64), padding + (-lengths) % _WORD.itemsize))
    order = np.empty(sum(len(own) for _, own in parts), np.int64)
    at = _bounds(np.sum([size for size, _ in parts], axis=0))[:-1]
    for size, own in parts:
        order[spread(at, size)] = own
        at = at + size
    data = pa.concat_arrays(pool).take(pa.array(order)).buffers()[2]
    ends = _bounds(_WORD.itemsize * np.diff(heads) + lengths + (-lengths) % _WORD.itemsize)
    given = _binary(ends, data or pa.py_buffer(b""))
    return given if valid.all() else given.take(pa.array(np.arange(rows), mask=~valid))


def unpacked(
    values: pa.ChunkedArray, columns: Sequence[str] = STEP.names, order: np.ndarray[Any, Any] | None = None
) -> pa.Array:
    """What was packed (`PACKED`), as lists of steps in columns of `schema.STEP`, value for value.

    `order` names the places of the values that are given, in their order; all of them by default. To put many bytes in
    order first takes longer.
    """
    given = values.combine_chunks()
    valid = _valid(given)
    bounds, data = _bytes(given)
    words = np.frombuffer(data, _WORD, count=len(data) // _WORD.itemsize)
    at = bounds[:-1][valid] // _WORD.itemsize
    sizes = [words[at + place].astype(np.int64) for place in range(4)]
    at += len(sizes)
    found = []
    for size in sizes:
        found.append(words[spread(at, size)])
        at += size
    masks, call_masks, numbers, call_numbers = found
    there, slots = _slots(masks, numbers, _SLOTS)
    call_there, call_slots = _slots(call_masks, call_numbers, len(_CALL_TEXTS))
    said, lengths = there[:, : len(_TEXTS)], slots[:, : len(_TEXTS)]
    records = [(said, lengths, _bounds(sizes[0])), (call_there, call_slots, _bounds(sizes[1]))]
    pool, (places, call_places) = _pool(data, _WORD.itemsize * at, records)
    counts = np.zeros(len(given), np.int64)
    counts[valid] = sizes[0]
    if order is not None:
        chosen = spread(_bounds(counts)[:-1][order], counts[order])
        called = spread(_bounds(slots[:, _CALLS])[:-1][chosen], slots[chosen, _CALLS])
        masks, there, slots, places = masks[chosen], there[chosen], slots[chosen], places[chosen]
        call_masks, call_places = call_masks[called], call_places[called]
        counts, valid = counts[order], valid[order]

    def text(place: Numbers) -> pa.Array:
        return pool.take(pa.array(place, mask=place < 0)).cast(pa.string())

    def column(name: str) -> pa.Array:
        if name in _TEXTS:
            return text(places[:, _TEXTS.index(name)])
        if name == "is_error":
            return pa.array((masks & _IS_TRUE) != 0, mask=(masks & (_IS_TRUE | _IS_FALSE)) == 0)
        if name == "tool_calls":
            own = [text(call_places[:, slot]) for slot in range(len(_CALL_TEXTS))]
            calls = pa.StructArray.from_arrays(own, fields=list(TOOL_CALL), mask=_null(call_masks & _CALL_IS == 0))
            return _lists(slots[:, _CALLS], calls, there[:, _CALLS], STEP.field(name).type)
        low = len(_TEXTS) + 2 * _WHOLE.index(name)
        whole = np.ascontiguousarray(slots[:, low : low + 2]).view("<i8").reshape(-1)
        return pa.array(whole, mask=~there[:, low]).cast(STEP.field(name).type)

    none = _null(masks & _IS == 0)
    return _steps(counts, valid, none, {name: column(name) for name in columns})


def narrowed(conversations: pa.ChunkedArray, columns: Sequence[str]) -> pa.Array:
    """Lists of steps in some of their columns."""
    lists = conversations.combine_chunks()
    steps = lists.flatten()
    fields = dict(zip(steps.type.names, steps.flatten(), strict=True))
    return _steps(_sizes(lists), _valid(lists), _null(~_valid(steps)), {name: fields[name] for name in columns})


def kind(columns: Sequence[str]) -> pa.DataType:
    """The type of lists of steps in some columns of `schema.STEP`."""
    return pa.list_(pa.struct([STEP.field(name) for name in columns]))


def _steps(counts: Numbers, valid: Mask, none: pa.Array | None, columns: dict[str, pa.Array]) -> pa.Array:
    fields = [STEP.field(name) for name in columns]
    steps = pa.StructArray.from_arrays(list(columns.values()), fields=fields, mask=none)
    return _lists(counts, steps, valid, kind(list(columns)))


def _slots(masks: Words, numbers: Words, count: int) -> tuple[Mask, Words]:
    """Which slots of records hold a number, and the numbers in their slots."""
    there = (masks[:, None] >> np.arange(count, dtype=_WORD)) & 1 == 1
    slots = np.zeros(there.shape, _WORD)
    slots[there] = numbers
    return there, slots


def _pool(
    data: pa.Buffer, begins: Numbers, records: list[tuple[Mask, Words, Numbers]]
) -> tuple[pa.Array, list[Numbers]]:
    """All texts of conversations as one array over their bytes, and where each record's stand in it; -1 for none.

    `begins` is where the text of each conversation begins; what lies before it is a value that nobody takes.
    """
    counts = [_within(there.sum(axis=1), bounds) for there, _, bounds in records]
    sizes = [_within(long.sum(axis=1), bounds) for _, long, bounds in records]
    before = np.arange(len(begins)) + _bounds(np.sum(counts, axis=0))[:-1]
    lengths = np.zeros(len(begins) + sum(int(count.sum()) for count in counts), np.int64)
    lengths[before] = (
        begins - np.concatenate([np.zeros(1, np.int64), (begins + np.sum(sizes, axis=0))[:-1]])[: len(begins)]
    )
    places = []
    at = before + 1
    for (there, long, _), count in zip(records, counts, strict=True):
        own = spread(at, count)
        lengths[own] = long[there]
        place = np.full(there.shape, -1)
        place[there] = own
        places.append(place)
        at = at + count
    return pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(_bounds(lengths).data), data), places


def _lists(sizes: np.ndarray[Any, Any], values: pa.Array, valid: Mask, kind: pa.DataType) -> pa.Array:
    bounds = pa.array(_bounds(sizes), pa.int32())
    return pa.ListArray.from_arrays(bounds, values, type=kind, mask=_null(~valid))


def _null(mask: Mask) -> pa.Array | None:
    return pa.array(mask) if mask.any() else None


def _mask(there: Mask) -> np.ndarray[Any, Any]:
    return there @ (1 << np.arange(there.shape[1], dtype=_WORD))


def _lengths(texts: list[pa.Array], count: int) -> tuple[np.ndarray[Any, Any], Mask]:
    """The bytes of texts in columns, and which are there."""
    lengths = [_length(column) for column in texts]
    return np.stack(lengths, axis=1).astype(_WORD), np.stack([_valid(column) for column in texts], axis=1)


def _length(texts: pa.Array) -> Numbers:
    """The bytes of texts; of nulls none."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4) if len(texts) else [0]
    return np.where(_valid(texts), np.diff(offsets), 0).astype(np.int64)


def _sizes(lists: pa.Array) -> Numbers:
    return lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _valid(values: pa.Array) -> Mask:
    if not values.null_count:
        return np.ones(len(values), np.bool_)
    return values.is_valid().to_numpy(zero_copy_only=False)


def _within(counts: np.ndarray[Any, Any], bounds: Numbers) -> Numbers:
    """Sums between bounds."""
    return np.diff(_bounds(counts)[bounds])


def _bounds(sizes: np.ndarray[Any, Any]) -> Numbers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _binary(offsets: Numbers, data: pa.Buffer) -> pa.Array:
    return pa.LargeBinaryArray.from_buffers(PACKED, len(offsets) - 1, [None, pa.py_buffer(offsets.data), data])


def _bytes(values: pa.Array) -> tuple[Numbers, pa.Buffer]:
    """Where each value begins and the last ends, and the bytes, from the first on."""
    _, offsets, data = values.buffers()
    where = (
        np.frombuffer(offsets, np.int64, len(values) + 1, values.offset * 8) if len(values) else np.zeros(1, np.int64)
    )
    whole = data or pa.py_buffer(b"")
    return where - where[0], whole.slice(where[0], where[-1] - where[0])

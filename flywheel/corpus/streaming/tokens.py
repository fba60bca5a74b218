"""Tokens: conversations as a model reads them, made once for a tokenizer, a template and a length, kept by content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.schema import FlywheelError, Step
from flywheel.views.window import Window, windows

# Part of every recipe: a change to how `views` renders, cuts or marks conversations must change it.
RULES = 1

# What a token is: read only; said by the assistant in a step without calls; in a step with calls; or said by it where
# two of its steps meet without a token between them, so that they cannot be told apart.
READ, ANSWER, CALL, EITHER = 0, 1, 2, 3

# One row a window. A conversation of which nothing can be trained has one row without tokens that says why.
SEGMENT = pa.schema(
    [
        ("content_digest", pa.string()),
        ("window", pa.int32()),
        ("n_tokens", pa.int32()),
        ("n_trained", pa.int32()),
        ("n_answers", pa.int32()),
        ("n_calls", pa.int32()),
        # Assistant steps of the conversation that fit in no window; told in its first row.
        ("left_out", pa.int32()),
        ("dropped", pa.string()),
        ("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False))),
        ("wrote", pa.list_(pa.field("item", pa.int8(), nullable=False))),
    ]
)


def recipe(tokenizer: Any, max_tokens: int) -> str:
    """All that decides which tokens a conversation becomes, as JSON text."""
    if max_tokens < 1:
        raise FlywheelError(f"windows of {max_tokens} tokens hold nothing; take at least one")
    return json.dumps(
        {
            "rules": RULES,
            "max_tokens": max_tokens,
            "vocabulary": hashlib.sha256(_vocabulary(tokenizer).encode()).hexdigest(),
            "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            "chat_template": tokenizer.chat_template,
        },
        sort_keys=True,
    )


def _vocabulary(tokenizer: Any) -> str:
    """The whole state of a tokenizer as text, but for how it would cut and pad a batch, which calls change."""
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        return json.dumps({**state, "truncation": None, "padding": None}, sort_keys=True)
    added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab(), added], sort_keys=True)


def tokenised(tokenizer: Any, max_tokens: int, rows: pa.Table) -> pa.Table:
    """Rows of `SEGMENT` for conversations (content_digest, steps, tools), in their order.

    What a template refuses, and what fits in no window, is a row with the reason in `dropped`.
    """
    made: dict[str, list[Any]] = {name: [] for name in SEGMENT.names}
    for row in rows.to_pylist():
        steps = msgspec.convert(row["steps"], tuple[Step, ...])
        try:
            cut = windows(tokenizer, steps, row["tools"], max_tokens)
            reason = f"no assistant's step fits in {max_tokens} tokens" if cut.left_out else "no assistant's step"
            found, left_out = cut.windows, len(cut.left_out)
        except FlywheelError as error:
            found, left_out, reason = [], 0, str(error)
        for number, window in enumerate(found):
            codes = wrote(window, steps)
            counts = np.bincount(codes, minlength=4)
            values = (
                *(row["content_digest"], number, len(codes), len(codes) - counts[READ], counts[ANSWER], counts[CALL]),
                *(left_out if number == 0 else 0, None, window.rendered.input_ids, codes),
            )
            for column, value in zip(made.values(), values, strict=True):
                column.append(value)
        if not found:
            values = (row["content_digest"], 0, 0, 0, 0, 0, left_out, reason, [], [])
            for column, value in zip(made.values(), values, strict=True):
                column.append(value)
    return pa.table(
        [_lists(made[f.name], f.type) if pa.types.is_list(f.type) else pa.array(made[f.name], f.type) for f in SEGMENT],
        schema=SEGMENT,
    )


def wrote(window: Window, steps: tuple[Step, ...]) -> np.ndarray[Any, np.dtype[np.int8]]:
    """What each token of a window is (`READ`, `ANSWER`, ...). The first has nothing to be foretold from: only read."""
    codes = np.asarray(window.rendered.assistant_mask, np.int8)
    edges = np.flatnonzero(np.diff(codes, prepend=0, append=0)).reshape(-1, 2)
    if len(edges) == len(window.trained):
        for turn, (start, end) in zip(window.trained, edges, strict=True):
            codes[start:end] = CALL if steps[turn].tool_calls else ANSWER
    else:
        kinds = {CALL if steps[turn].tool_calls else ANSWER for turn in window.trained}
        codes *= kinds.pop() if len(kinds) == 1 else EITHER
    codes[:1] = READ
    return codes


def _lists(values: list[Any], of: pa.ListType) -> pa.ListArray:
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    flat = np.concatenate([np.asarray(value, of.value_type.to_pandas_dtype()) for value in values] or [[]])
    return pa.ListArray.from_arrays(offsets, pa.array(flat, of.value_type), type=of)

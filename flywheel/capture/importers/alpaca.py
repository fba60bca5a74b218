"""Alpaca: an instruction, perhaps with an input, and its output (tatsu-lab/stanford_alpaca)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.records import Bad, Made, Origin, Record

NAME = "alpaca"
# `text` is the whole record again, as one prompt.
REPEATED = frozenset({"text"})


class Pair(msgspec.Struct):
    """One record; `history` are the question and answer pairs before it."""

    instruction: str
    output: str
    input: str | None = None
    system: str | None = None
    history: list[tuple[str, str]] | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds Alpaca records."""
    return all(key in head for key in (b'"instruction"', b'"output"'))


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The records of a file: a list, lines, or one alone."""
    with documents.opened(path) as data:
        yield from records.read(
            documents.records(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    pair = msgspec.convert(raw, Pair)
    messages = [{"role": "system", "content": pair.system}] if pair.system else []
    asked = "\n\n".join(part for part in (pair.instruction, pair.input) if part)
    for question, answer in (*(pair.history or ()), (asked, pair.output)):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    steps = chat.steps(messages)
    task = chat.opening(steps)
    trajectory = origin.trajectory(
        task_id=task,
        task_group=task,
        task_type="instruction",
        agent="unknown",
        end_state="completed",
        metadata={
            k: v
            for k, v in raw.items()
            if k not in Pair.__struct_fields__ and k not in REPEATED and k.lower() not in chat.REFERENCES
        },
        steps=steps,
    )
    return trajectory, []

"""TRL: conversational rows for SFT, KTO, DPO and GRPO (https://huggingface.co/docs/trl/dataset_formats)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.schema import Step
from flywheel.views.graded import ORIGIN, Format, Graded, Row, Unfit, about
from flywheel.views.openai import message

VERSION = "TRL 1.16"

CHAT = {
    **ORIGIN,
    "end_state": "as the last message tells",
    "steps.content": "none is empty text",
    "steps.reasoning": "an empty thought is none",
    "steps.tool_calls.arguments": "JSON objects, printed anew when they are read; other text stays as it is",
    "steps.tool_call_id": "a result without one gets that of the first call that waits",
    "steps.is_error": "no place for it",
    "steps.metadata": "no place for it: token ids, log-probabilities, finish reasons, parts of pictures",
}
PARTS = {
    **CHAT,
    "steps": "a row is a part of the conversation; no importer puts them together",
}


def sft(graded: Graded, _number: int) -> list[Row]:
    """`messages` and `tools` (JSON text) for SFTTrainer, with what is known of the task beside.

    `assistant_only_loss` masks what others said, with a template that marks generations.

    Raises:
        Unfit: when the assistant says nothing.
    """
    steps = graded.trajectory.steps
    if not any(step.role == "assistant" for step in steps):
        raise Unfit("the assistant says nothing")
    return [{"messages": messages(steps), "tools": graded.trajectory.tools} | about(graded)]


def kto(graded: Graded, _number: int) -> list[Row]:
    """One row for each assistant's step for KTOTrainer: what came before, the step, and whether the whole succeeded.

    Raises:
        Unfit: when there is no verdict, or no assistant's step that something came before.
    """
    if graded.success is None:
        raise Unfit("no verdict")
    of = graded.trajectory
    said = messages(of.steps)
    found: list[Row] = [
        {
            "prompt": said[:index],
            "completion": [said[index]],
            "label": graded.success,
            "tools": of.tools,
            "id": of.id,
            "step_index": index,
        }
        for index, step in enumerate(of.steps)
        if step.role == "assistant" and index
    ]
    if not found:
        raise Unfit("the assistant says nothing, or nobody spoke before it")
    return found


def prompts(graded: Graded, _number: int) -> list[Row]:
    """`prompt` for GRPOTrainer: the steps up to the first user's. The other columns go to the reward function.

    Raises:
        Unfit: when no user speaks, or a tool does before.
    """
    of = graded.trajectory
    opening = next((index + 1 for index, step in enumerate(of.steps) if step.role in ("user", "tool")), 0)
    if not opening or of.steps[opening - 1].role != "user":
        raise Unfit("no user asks anything")
    row = {"prompt": messages(of.steps[:opening]), "tools": of.tools}
    return [row | {name: getattr(of, name) for name in ("task_id", "task_group", "task_type")} | {"id": of.id}]


def pair(row: Row) -> Row:
    """A row of `preferences.pairs.PAIRS` for DPOTrainer: `prompt`, `chosen`, `rejected` and `tools` (JSON text).

    `weight` is how often both steps were sampled, `margin` the gap between their chances of success.
    """
    prompt = msgspec.json.decode(row["prompt"], type=list[Step])
    sides = {side: messages([msgspec.json.decode(row[side], type=Step)]) for side in ("chosen", "rejected")}
    beside = ("pair_id", "task_id", "task_group", "decision", "margin", "weight")
    return {"prompt": messages(prompt), **sides, "tools": row["tools"]} | {name: row[name] for name in beside}


def messages(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Messages as chat templates read them: thoughts in `reasoning_content`, arguments as objects."""
    return [_message(step) for step in steps]


def _message(step: Step) -> dict[str, Any]:
    said = message(step)
    said["content"] = step.content or ""
    said.pop("weight", None)
    if step.reasoning is not None:
        said["reasoning_content"] = step.reasoning
    if step.role == "tool" and step.tool_name is not None:
        said["name"] = step.tool_name
    for call in said.get("tool_calls", ()):
        call["function"]["arguments"] = object_of(call["function"]["arguments"])
    return said


def object_of(text: str) -> Any:
    """The object that JSON text is; the text where it is none, or one that could not be written again."""
    try:
        value = msgspec.json.decode(text, type=dict[str, Any])
        msgspec.json.encode(value)
    except (ValueError, OverflowError, RecursionError):
        return text
    return value


SFT = Format(name="trl-sft", version=VERSION, lost=CHAT, rows=sft, read_by="openai-chat")
KTO = Format(name="trl-kto", version=VERSION, lost=PARTS, rows=kto)
PROMPTS = Format(name="trl-prompts", version=VERSION, lost=PARTS, rows=prompts)

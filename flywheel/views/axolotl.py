"""Axolotl: rows for its `chat_template` strategy (https://docs.axolotl.ai/docs/dataset-formats/conversation.html)."""

from __future__ import annotations

import json

from flywheel.views import trl
from flywheel.views.graded import Format, Graded, Row, Unfit, about
from flywheel.views.openai import weight

CONFIG = """\
datasets:
  - path: {file}
    ds_type: json
    type: chat_template
    field_messages: messages
    field_tools: tools
    message_field_training: training
    roles_to_train: [assistant]
"""


def rows(graded: Graded, number: int) -> list[Row]:
    """`messages` and `tools`, with what is known of the task beside.

    A message has `training` where its record says whether it is trained.

    Raises:
        Unfit: when the assistant says nothing, or a call's arguments are no JSON: Axolotl stops at such a row.
    """
    steps = graded.trajectory.steps
    if not any(step.role == "assistant" for step in steps):
        raise Unfit("the assistant says nothing")
    if not all(_is_json(call.arguments) for step in steps for call in step.tool_calls):
        raise Unfit("the arguments of a call are no JSON")
    said = trl.messages(steps)
    for message, step in zip(said, steps, strict=True):
        if (given := weight(step)) is not None:
            message["training"] = bool(given)
    return [{"messages": said, "tools": json.loads(graded.trajectory.tools)} | about(graded)]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


LOST = {**trl.CHAT, "steps.metadata": f"{trl.CHAT['steps.metadata']}; `weight` is `training`"}

AXOLOTL = Format(name="axolotl", version="Axolotl 0.19, chat_template", lost=LOST, rows=rows, read_by="openai-chat")

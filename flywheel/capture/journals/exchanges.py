"""Exchanges: requests to a model and what came back, as a gateway sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture.importers.dialects import Message
from flywheel.schema import EndState


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a model and its answers, one for each choice that was asked for.

    `thread` is the name that the client gave its trajectory (`named`), else the id of the exchange that this one goes
    on from in the end, its own where it starts. `after` names an exchange in the same journal: its messages and its
    answer `choice` come before `messages`. `details` stand beside `answers`: what is known of each beyond its
    messages (finish reason, token ids, log-probabilities). `about` tells of the request: the interface, its
    parameters, the task. Answers that broke off make it `partial`; an error of the upstream, `failed`.
    """

    id: str
    thread: str
    named: bool = False
    after: str | None = None
    choice: int = 0
    messages: list[Message]
    answers: list[list[Message]]
    details: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    model: str = ""
    provider: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    started_at: datetime
    ended_at: datetime
    state: EndState = "completed"
    error: str = ""
    about: dict[str, Any] = {}

"""Evaluations: what evaluators logged of a span, and which conversation, and step, that is about.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from flywheel.capture.importers.conversations import EPOCH, Conversation
from flywheel.capture.importers.spans import EVALUATION, RESPONSE, Span

# What the conventions give as labels, for evaluators that give no number.
LABELS = {"pass": 1.0, "correct": 1.0, "relevant": 1.0, "fail": 0.0, "incorrect": 0.0, "not_relevant": 0.0}
LONGEST = 512  # characters of a name, as of any signal


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A score that a span got, or the answer of an id (`response`) where no span was named.

    It is about a `conversation` of its trace, by number, which `call` is part of, and about a `step` of it where the
    span is that of the call itself; None and empty where the trace does not tell.
    """

    span: str
    response: str
    name: str
    value: float
    comment: str
    at: datetime | None
    conversation: int | None = None
    call: str = ""
    step: int | None = None


def of(part: Span) -> list[Evaluation]:
    """The evaluations among the events of a span, or of a part of it that was logged apart.

    Raises ValueError for one without a name, or with neither a number nor a label that stands for one.
    """
    found = []
    for event, said in part.events:
        if event != EVALUATION:
            continue
        name, label = (str(said.get(f"gen_ai.evaluation.{field}") or "") for field in ("name", "score.label"))
        if not 0 < len(name) <= LONGEST:
            raise ValueError(f"an evaluation has a gen_ai.evaluation.name of 1 to {LONGEST} characters")
        if error := said.get("error.type"):
            raise ValueError(f"the evaluation {name!r} failed itself: {error}")
        score = said.get("gen_ai.evaluation.score.value")
        value = LABELS.get(label.lower()) if score is None else score
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the evaluation {name!r} has no gen_ai.evaluation.score.value that is a number")
        why = str(said.get("gen_ai.evaluation.explanation") or "")
        at = part.logged_at or part.ended_at or part.started_at
        found.append(
            Evaluation(
                span=part.id,
                response=str(said.get(RESPONSE) or ""),
                name=name,
                value=float(value),
                comment=": ".join(text for text in (label, why) if text),
                at=at if at != EPOCH else None,
            )
        )
    return found


def placed(
    found: Sequence[Evaluation],
    conversations: Sequence[Conversation],
    parents: Mapping[str, str | None],
    responses: Mapping[str, str],
) -> list[Evaluation]:
    """Evaluations with what they are about, in order.

    A call of a model is evaluated as the step that it ends on; any other span (an agent, a tool, a chain) as the
    longest conversation that has a call within it, or within the nearest span around it. `parents` names the span
    around each, `responses` the span that told of an answer.
    """
    calls: dict[str, tuple[int, str, int | None]] = {}
    around: dict[str, tuple[int, str, int | None]] = {}
    for number, conversation in enumerate(conversations if found else ()):
        whole = (number, conversation.last.id, None)
        ended = {conversation.last.id: None, **conversation.answers}
        for call in sorted(ended):
            calls.setdefault(call.partition("#")[0], (number, call, ended[call]))
            for span in _outwards(call.partition("#")[0], parents)[1:]:
                around.setdefault(span, whole)
    made = []
    for one in found:
        path = [*_outwards(one.span, parents), responses.get(one.response, "")]
        about = next((hit for span in path if (hit := calls.get(span) or around.get(span))), None)
        if about:
            one = msgspec.structs.replace(one, conversation=about[0], call=about[1], step=about[2])
        made.append(one)
    return sorted(made, key=lambda one: (one.at or EPOCH, one.span, one.name, one.value, one.comment))


def _outwards(span: str, parents: Mapping[str, str | None]) -> list[str]:
    """A span and those around it; the last is where parents end, or form a ring."""
    path = [span]
    while (outer := parents.get(path[-1])) and outer not in path:
        path.append(outer)
    return path

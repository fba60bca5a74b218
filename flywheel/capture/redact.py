"""Redaction: obvious secrets and personal data give way to typed placeholders before anything is stored."""

from __future__ import annotations

import json
import re
from collections import Counter

import msgspec

from flywheel.capture.secrets import NAMED_SECRET, NO_SECRET, RULES, Rule, has_digits, suspicious
from flywheel.schema import Outcome, Step, ToolCall, Trajectory
from flywheel.settings import Home

# JSON tokens that can hold a secret: strings (a key when a colon follows) and long whole numbers.
JSON_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*+")(\s*:)?|(?<![\w.+-])\d{13,19}(?![\w.])', re.S)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates, as broken tool output brings them, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class Redactor:
    """Redacts the texts of one trajectory: one value has one placeholder throughout, the second of a kind `<EMAIL_2>`.

    `counts` tells how many places were replaced, by kind.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._placeholders: dict[tuple[str, str], str] = {}
        self._kinds: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """A text without secrets; one that is a JSON object or list stays JSON."""
        return self.json(text) if text[:1] in ("{", "[") else self._plain(_storable(text))

    def json(self, text: str) -> str:
        """JSON text without secrets, otherwise byte for byte as it was; text that is not JSON as plain text."""
        text = _storable(text)
        escaped = "\\u" in text or "\\/" in text  # escapes may hide what the prefilter looks for
        if not escaped and not suspicious(text):
            return text
        if not _is_json(text):
            return self._plain(text)
        key: str | None = None

        def replace(token: re.Match[str]) -> str:
            nonlocal key
            string, colon = token.group(1), token.group(2) or ""
            if string is None:
                clean = self._plain(token.group())
                return token.group() if clean == token.group() else json.dumps(clean)
            value = json.loads(string)
            if not colon and key is not None and NAMED_SECRET.match(key) and not NO_SECRET.fullmatch(value):
                clean = self._placeholder("PASSWORD", value)
            else:
                clean = self._plain(value)
            key = value if colon else None
            return (string if clean == value else json.dumps(clean, ensure_ascii=False)) + colon

        return JSON_TOKEN.sub(replace, text)

    def step(self, step: Step) -> Step:
        """A step with all its texts redacted."""
        return msgspec.structs.replace(
            step,
            content=step.content and self.text(step.content),
            reasoning=step.reasoning and self.text(step.reasoning),
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.name, arguments=self.json(call.arguments)) for call in step.tool_calls
            ),
            metadata=self.json(step.metadata),
        )

    def trajectory(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory with its metadata, tools and steps redacted, in this order."""
        return msgspec.structs.replace(
            trajectory,
            metadata=self.json(trajectory.metadata),
            tools=self.json(trajectory.tools),
            steps=tuple(self.step(step) for step in trajectory.steps),
        )

    def outcome(self, outcome: Outcome) -> Outcome:
        """An outcome with its comment redacted."""
        return msgspec.structs.replace(outcome, comment=self.text(outcome.comment)) if outcome.comment else outcome

    def _plain(self, text: str) -> str:
        if not suspicious(text):
            return text
        lower, digits = text.lower(), has_digits(text)
        for rule in RULES:
            if any(hint in lower for hint in rule.hints) if rule.hints else digits:
                text = rule.pattern.sub(lambda match, rule=rule: self._replaced(rule, match), text)
        return text

    def _replaced(self, rule: Rule, match: re.Match[str]) -> str:
        if rule.valid and not rule.valid(match):
            return match.group()
        group = "value" if "value" in rule.pattern.groupindex else 0
        start, end = match.span(group)
        before, after = match.string[match.start() : start], match.string[end : match.end()]
        return before + self._placeholder(rule.kind, match[group]) + after

    def _placeholder(self, kind: str, value: str) -> str:
        self.counts[kind] += 1
        key = (kind, re.sub(r"[\s().-]", "", value).lower())
        if key not in self._placeholders:
            self._kinds[kind] += 1
            number = self._kinds[kind]
            self._placeholders[key] = f"<{kind}>" if number == 1 else f"<{kind}_{number}>"
        return self._placeholders[key]


def redactor(home: Home, workspace: str) -> Redactor:
    """A redactor of what comes into a workspace."""
    return Redactor()

"""Redaction: secrets and personal data give way to typed placeholders before anything is stored."""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction import readings
from flywheel.capture.redaction.credentials import is_named
from flywheel.capture.redaction.detector import detector
from flywheel.capture.redaction.policy import DEFAULT, Policy
from flywheel.schema import Outcome, Step, ToolCall, Trajectory, canonical_json
from flywheel.settings import Home

# JSON tokens that can hold a secret: strings (a key when a colon follows) and whole numbers.
# A string that has no end reaches to the text's end.
JSON_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))(\s*:)?|(?<![\w.+-])-?\d{4,}(?![\w.])', re.S)
JSON_TEXT = re.compile(r"\s*[\[{]")
LONG = 8  # digits of a number that may be somebody's
TELLING = 9  # characters of a value, a digit among them, that is known again where nothing says what it is
# The end of an excerpt that may be the beginning of a secret: a word, or groups of characters.
CUT = re.compile(r"(?:(?<![\w@.+/=~%:\\-])[\w@.+/=~%:\\-]++|(?:\b[A-Z0-9]{2,6}[ -]?){1,8})(?:…)?\Z")
HALF = 6  # characters of such an end, a digit or an @ among them, that are more than a word
MOST = 1000  # values that are known again
# What tells a step's text in other words, and the steps' before it.
TOKENS, PROMPT_TOKENS = ("token_ids", "logprobs"), ("prompt_token_ids", "prompt_logprobs")


def _is_json(text: str) -> bool:
    for decode in (msgspec.json.decode, json.loads):  # the second knows NaN and numbers of any size
        try:
            decode(text)
        except (ValueError, RecursionError):
            continue
        return True
    return False


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates, as broken tool output brings them, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Dropped(Exception):  # no error: the whole field goes
    """A field holds a kind that takes the whole field with it."""


class Redactor:
    """Redacts the texts of one trajectory by a policy: one value has one placeholder throughout.

    A value that was told by what stood beside it is known again wherever it comes later. The second value of a kind
    that is masked is `<EMAIL_2>`; one that is hashed has the same `<EMAIL:3f9a...>` everywhere in its workspace. What
    it does depends on the texts it has seen, in their order, and on nothing else. `counts` tells how many places were
    replaced, by kind. `key` gives the secret that hashes are made with.
    """

    def __init__(self, policy: Policy = DEFAULT, key: Callable[[], bytes] = bytes) -> None:
        self.counts: Counter[str] = Counter()
        self._policy, self._key = policy, key
        self._detector = detector(policy)
        self._placeholders: dict[tuple[str, str], str] = {}
        self._kinds: Counter[str] = Counter()
        self._known: dict[str, str] = {}
        # Threads may share a redactor: no two values get one number. A lock of all redactors a fork could find held.
        self._numbering = threading.Lock()

    def agrees(self, other: Redactor) -> bool:
        """Whether another goes by the same policy."""
        return self._policy == other._policy

    def text(self, text: str) -> str:
        """A text without secrets; one that is a JSON object or list stays JSON."""
        return self._stable(self._text, text)

    def json(self, text: str) -> str:
        """JSON text without secrets, otherwise byte for byte as it was; text that is not JSON as plain text."""
        return self._stable(self._json, text)

    def excerpt(self, text: str, limit: int) -> str:
        """The beginning of an input that cannot be read, cut after `limit` bytes: what the cut parted goes too."""
        clean = self.json(text)
        return CUT.sub("…", clean) if len(text.encode("utf-8", "replace")) >= limit - 3 else clean

    def identifier(self, text: str) -> str:
        """A name or an id without secrets: they are hashed whatever the policy, so that what has one name keeps one."""
        text = _storable(text)
        while spans := self._detector.find(text):
            for start, end, kind, _ in reversed(spans):
                self.counts[kind] += 1
                text = text[:start] + self._hashed(kind, text[start:end]) + text[end:]
        return text

    def step(self, step: Step) -> Step:
        """A step with all its texts redacted.

        Token ids and log-probabilities say the text once more: where something of it was replaced, they go.
        """
        clean = msgspec.structs.replace(
            step,
            content=step.content and self.text(step.content),
            reasoning=step.reasoning and self.text(step.reasoning),
            tool_calls=tuple(
                ToolCall(
                    id=self.identifier(call.id),
                    name=self.identifier(call.name),
                    arguments=self.json(call.arguments),
                )
                for call in step.tool_calls
            ),
            tool_call_id=step.tool_call_id and self.identifier(step.tool_call_id),
            tool_name=step.tool_name and self.identifier(step.tool_name),
        )
        changed = clean != step
        seen = bool(self.counts)
        metadata = self.json(step.metadata)
        if (seen and "token_ids" in metadata) or ("logprobs" in metadata and changed):
            metadata = without(metadata, (*PROMPT_TOKENS, *TOKENS) if changed else PROMPT_TOKENS)
        return msgspec.structs.replace(clean, metadata=metadata)

    def trajectory(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory with its names, metadata, tools and steps redacted, in this order.

        What was replaced in it is counted by kind in its metadata, as `redactions`.
        """
        before = self.counts.copy()
        clean = self.header(trajectory)
        clean = msgspec.structs.replace(clean, steps=tuple(self.step(step) for step in trajectory.steps))
        return msgspec.structs.replace(clean, metadata=counted(clean.metadata, self.counts - before))

    def header(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory with its names, metadata and tools redacted, and its steps as they were."""
        named = ("id", "task_id", "task_group", "task_type", "agent", "agent_version", "model", "provider", "source")
        return msgspec.structs.replace(
            trajectory,
            **{field: self.identifier(getattr(trajectory, field)) for field in named},
            metadata=self.json(trajectory.metadata),
            tools=self.json(trajectory.tools),
        )

    def outcome(self, outcome: Outcome) -> Outcome:
        """An outcome with its comment, ids and names redacted."""
        named = ("trajectory_id", "signal", "source", "checker_version")
        return msgspec.structs.replace(
            outcome,
            comment=outcome.comment and self.text(outcome.comment),
            **{field: self.identifier(getattr(outcome, field)) for field in named},
        )

    def _stable(self, once: Callable[[str], str], text: str) -> str:
        """Until nothing is found any more: what stood beside a secret may show another when that is gone."""
        text = _storable(text)
        try:
            while (clean := once(text)) != text:
                text = clean
        except _Dropped as dropped:
            return f"<DROPPED:{dropped}>"
        return text

    def _text(self, text: str) -> str:
        return self._json(text) if JSON_TEXT.match(text) else self._plain(text)

    def _json(self, text: str) -> str:
        escaped = "\\u" in text or "\\/" in text  # escapes may hide what the prefilter looks for
        known = any(value in text for value in list(self._known))  # others may add to it meanwhile
        if not escaped and not known and not self._detector.suspicious(text):
            return text
        valid = _is_json(text)
        key = ""

        def replace(token: re.Match[str]) -> str:
            nonlocal key
            string, colon = token.group(1), token.group(2) or ""
            if string is None:
                clean = self._value(token.group(), key, number=True)
                return token.group() if clean == token.group() else json.dumps(clean)
            whole = string if valid or (len(string) > 1 and string.endswith('"')) else string.rstrip("\\") + '"'
            try:
                value = _storable(json.loads(whole, strict=False))
            except ValueError:
                return token.group()
            if colon:
                clean = key = self._key_of(value)
            else:
                clean = self._value(value, key)
            if clean == value:
                return token.group()
            shown = json.dumps(clean, ensure_ascii=False)
            return (shown if whole == string else shown.removesuffix('"')) + colon

        clean = JSON_TOKEN.sub(replace, text)
        return clean if valid else self._plain(clean)

    def _value(self, value: str, key: str, number: bool = False) -> str | None:
        """A value of JSON without secrets; None where it is dropped."""
        try:
            if is_named(key, value) and self._policy.action("PASSWORD") != "off":
                if self._detector.placeholder.fullmatch(value):
                    return value
                if not number or len(value) >= 4:
                    return self._placeholder("PASSWORD", value, said=True)
            if number and len(value) < LONG:
                return value
            return self._json(value) if JSON_TEXT.match(value) else self._plain(value, key)
        except _Dropped:
            return None

    def _key_of(self, key: str) -> str:
        try:
            return self._plain(key)
        except _Dropped as dropped:
            return f"<DROPPED:{dropped}>"

    def _plain(self, text: str, before: str = "") -> str:
        spans = self._detector.find(text, before) or self._detector.again(text, self._known)
        if not spans:
            return text
        parts: list[str] = []
        at = 0
        for start, end, kind, said in spans:
            parts += [text[at:start], self._placeholder(kind, text[start:end], said)]
            at = end
        return "".join([*parts, text[at:]])

    def _placeholder(self, kind: str, value: str, said: bool) -> str:
        self.counts[kind] += 1
        if said and len(value) >= TELLING and len(self._known) < MOST and any(c.isdigit() for c in value):
            self._known.setdefault(value, kind)
        action = self._policy.action(kind)
        if action == "drop":
            raise _Dropped(kind)
        if action == "hash":
            return self._hashed(kind, value)
        key = (kind, _normal(value))
        with self._numbering:
            if key not in self._placeholders:
                self._kinds[kind] += 1
                number = self._kinds[kind]
                self._placeholders[key] = f"<{kind}>" if number == 1 else f"<{kind}_{number}>"
            return self._placeholders[key]

    def _hashed(self, kind: str, value: str) -> str:
        digest = hmac.digest(self._key(), f"{kind}\x1f{_normal(value)}".encode(), "sha256")
        return f"<{kind}:{digest.hex()[:12]}>"


def _normal(value: str) -> str:
    return re.sub(r"[\s().-]", "", readings.plain(value)).lower()


def unfinished(text: str) -> str:
    """A redacted text that broke off, without the end that may be the beginning of a secret."""
    end = CUT.search(text)
    half = end and len(end[0]) >= HALF and any(char.isdigit() or char == "@" for char in end[0])
    return CUT.sub("…", text) if half else text


def without(metadata: str, names: tuple[str, ...]) -> str:
    """Metadata of a step without some of its fields, and `withheld` telling which."""
    about = msgspec.json.decode(metadata)
    gone = [name for name in names if isinstance(about, dict) and name in about]
    if not gone:
        return metadata
    kept = {name: value for name, value in about.items() if name not in gone}
    return canonical_json({**kept, "withheld": sorted({*gone, *about.get("withheld", ())})})


def counted(metadata: str, counts: Counter[str]) -> str:
    """Metadata of a trajectory that tells what was replaced in it, by kind, beside what was before."""
    about = msgspec.json.decode(metadata) if counts else None
    if not isinstance(about, dict):
        return metadata
    total = Counter(about.get("redactions", {})) + counts
    return canonical_json({**about, "redactions": dict(sorted(total.items()))})


def redactor(home: Home, workspace: str) -> Redactor:
    """A redactor of what comes into a workspace, by its policy."""
    return Redactor(policies.of(home, workspace), partial(policies.key, home, workspace))

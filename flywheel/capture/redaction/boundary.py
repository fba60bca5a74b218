"""The persistence boundary: which layers of a prompt are kept, as a workspace's policy declares for each source."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from flywheel.capture.importers import chat
from flywheel.capture.importers.calls import Calls
from flywheel.capture.importers.dialects import Message
from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction.policy import How, Layer, Layers
from flywheel.capture.redaction.redact import PROMPT_TOKENS, without
from flywheel.schema import Step, Trajectory, canonical_json
from flywheel.settings import Home

# What stands in the place of what was left out.
LEFT_OUT = re.compile(r"<(SYSTEM_PROMPT|INJECTED_MEMORY|RETRIEVED_CONTEXT)(:[0-9a-f]{12})?>")


class Boundary:
    """Leaves out of one trajectory what its source declares: whole system prompts and tool schemas, and what is known
    as injected memory or retrieved context. It comes before redaction, and doing it again changes nothing.

    What is dropped leaves `<SYSTEM_PROMPT>` (and the like) in its place; where a digest is kept, it leaves
    `<SYSTEM_PROMPT:3f9a...>`, the same for the same text in the whole workspace. What was left out before is known by
    that, and counted.
    """

    def __init__(self, layers: Layers, key: Callable[[], bytes]) -> None:
        self._key = key
        self._whole: dict[str, How | None] = {
            "system_prompt": layers.system_prompt,
            "tool_schemas": layers.tool_schemas,
        }
        self._parts = [
            (name, part)
            for name, told in (
                ("injected_memory", layers.injected_memory),
                ("retrieved_context", layers.retrieved_context),
            )
            for part in ((told,) if isinstance(told, Layer) else told or ())
            if part.how != "keep"
        ]
        self._left_out: Counter[tuple[str, How]] = Counter()
        self._digest: str | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is left out."""
        return not self._parts and all(how in (None, "keep") for how in self._whole.values())

    def trajectory(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory without what is not kept; its metadata tells of it as `boundary`: layer, how and how often."""
        header = self.header(trajectory)
        steps = tuple(self.step(step) for step in trajectory.steps)
        if not self._left_out:
            return header
        metadata = msgspec.json.decode(header.metadata)
        if isinstance(metadata, dict):
            metadata["boundary"] = {**metadata.get("boundary", {}), **self.about()}
        return msgspec.structs.replace(header, steps=steps, metadata=canonical_json(metadata))

    def header(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory whose tool schemas are left out, where they are not kept."""
        if trajectory.tools == "[]" or not self._without_tools(trajectory.tools):
            return trajectory
        return msgspec.structs.replace(trajectory, tools="[]")

    def step(self, step: Step) -> Step:
        """A step without what is not kept. Ids of prompt tokens, which say it too, go once something was left out."""
        metadata = step.metadata
        name = msgspec.json.decode(metadata).get("name") if '"name"' in metadata else None
        content = step.content and self._kept(step.role, (step.tool_name, name), step.content)
        if content and content != step.content and '"parts"' in metadata:
            about = msgspec.json.decode(metadata)
            if isinstance(about.get("parts"), list):
                metadata = canonical_json({**about, "parts": _parts(content, about["parts"])})
        if self._left_out and "prompt_" in metadata:
            metadata = without(metadata, PROMPT_TOKENS)
        same = content == step.content and metadata == step.metadata
        return step if same else msgspec.structs.replace(step, content=content, metadata=metadata)

    def messages(self, messages: Sequence[Message], at: int = 0) -> list[Message]:
        """Chat messages, from the one of number `at` on, without what is not kept. Those before it tell which tools
        results are of."""
        if self.keeps_all:
            return list(messages[at:])
        names = _tools_of(messages) if any(part.name for _, part in self._parts) else {}
        return [self._message(messages[n], (names.get(n), messages[n].get("name"))) for n in range(at, len(messages))]

    def tools(self, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Schemas of tools, where they are kept."""
        return [] if tools and self._without_tools(canonical_json(tools)) else tools

    def about(self) -> dict[str, Any]:
        """What was left out so far: layer, how, how often, and the digest of tool schemas; empty when nothing was."""
        told: dict[str, Any] = {}
        for (layer, how), count in sorted(self._left_out.items()):
            told[layer] = {"how": how, "count": count + told.get(layer, {}).get("count", 0)}
        if self._digest:
            told["tool_schemas"]["digest"] = self._digest
        return told

    def _message(self, message: Message, names: Sequence[Any]) -> Message:
        """A chat message; what cannot be read as one is told where it is made a step.

        Of a system prompt that is not kept nothing else is, whatever its form.
        """
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        texts = [str(p.get("text", "")) for p in parts if isinstance(p, dict) and p.get("type") == "text"]
        said = "\n".join(texts) if parts else content
        role = message.get("role")
        if not isinstance(role, str):
            return message
        kind = chat.ROLES.get(role.lower(), role.lower())
        if kind == "system" and (self._whole["system_prompt"] or "keep") != "keep":
            told = said if isinstance(said, str) else canonical_json(content) if content else ""
            about = {name: message[name] for name in ("role", "name") if name in message}
            return {**about, "content": self._kept(kind, names, told) if told else None}
        if not said or not isinstance(said, str):
            return message
        kept = self._kept(kind, names, said)
        if kept == said:
            return message
        return {**message, "content": _parts(kept, parts) or kept}

    def _kept(self, role: str, names: Sequence[Any], content: str) -> str:
        """What is kept of what one of a role, or of one of some names, says."""
        how = self._whole["system_prompt"] or "keep"
        if role == "system" and how != "keep":
            return self._instead("system_prompt", how, content)
        for layer, part in self._parts:
            if part.role in (None, role) and (part.name is None or part.name in names):
                content = self._without(layer, part, content)
                if part.between is None:
                    break  # nothing else of it is left
        return content

    def _without_tools(self, tools: str) -> bool:
        how = self._whole["tool_schemas"] or "keep"
        if how == "keep":
            return False
        self._left_out["tool_schemas", how] += 1
        self._digest = self._hashed(tools) if how == "digest" else None
        return True

    def _without(self, layer: str, part: Layer, content: str) -> str:
        """A content without the layer: what stands between delimiters (to the end, where one is open), or all of it."""
        if part.between is None:
            return self._instead(layer, part.how, content)
        begin, end = part.between
        parts: list[str] = []
        at = 0
        while (start := content.find(begin, at)) >= 0:
            start += len(begin)
            stop = _closing(content, start, begin, end)
            parts += [content[at:start], self._instead(layer, part.how, content[start:stop])]
            at = stop
        return "".join([*parts, content[at:]])

    def _instead(self, layer: str, how: How, text: str) -> str:
        name = layer.upper()
        if not text:
            return text
        if before := LEFT_OUT.fullmatch(text):
            if before[1] == name:
                self._left_out[layer, "digest" if before[2] else "drop"] += 1
            return text
        self._left_out[layer, how] += 1
        return f"<{name}>" if how == "drop" else f"<{name}:{self._hashed(text)}>"

    def _hashed(self, text: str) -> str:
        return hmac.digest(self._key(), text.encode("utf-8", "replace"), "sha256").hex()[:12]


def _parts(kept: str, parts: list[Any]) -> list[Any]:
    """The parts of a content of whose text that is `kept`; none where nothing else of it is."""
    others = [part for part in parts if not isinstance(part, dict) or part.get("type") != "text"]
    return [{"type": "text", "text": kept}, *others] if others and not LEFT_OUT.fullmatch(kept) else []


def _tools_of(messages: Sequence[Message]) -> dict[int, str | None]:
    """Which tool each result among messages is of, as `chat.steps` finds it out."""
    calls, found = Calls(), dict[int, str | None]()
    for number, message in enumerate(messages):
        made = message.get("tool_calls")
        for call in [*(made if isinstance(made, list) else []), {"function": message.get("function_call")}]:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                calls.made(_text(call.get("id")), str(function.get("name")), "")
        if message.get("role") in ("tool", "function"):
            found[number] = calls.answered(_text(message.get("tool_call_id")), _text(message.get("name")))[1]
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _closing(content: str, at: int, begin: str, end: str) -> int:
    """Where the part that begins at `at` ends: parts may stand in parts, and one that never ends reaches to the end."""
    depth = 1
    while depth:
        closed = content.find(end, at)
        if closed < 0:
            return len(content)
        opened = content.find(begin, at) if begin != end else -1
        if 0 <= opened < closed:
            depth, at = depth + 1, opened + len(begin)
        else:
            depth, at = depth - 1, closed + len(end)
    return at - len(end)


def of(home: Home, workspace: str, source: str) -> Boundary:
    """The boundary of a source in a workspace; what its policy says nothing about is kept."""
    declared = policies.of(home, workspace).boundary
    own, all_others = declared.get(source, Layers()), declared.get("*", Layers())
    layers = {name: getattr(own, name) or getattr(all_others, name) for name in Layers.__struct_fields__}
    return Boundary(Layers(**layers), partial(policies.key, home, workspace))


def whole() -> Boundary:
    """One that keeps all."""
    return Boundary(Layers(), bytes)

"""The persistence boundary: which layers of a prompt are kept, as a workspace's policy declares for each source."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from flywheel.capture.redact import PROMPT_TOKENS, without
from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction.policy import How, Layer, Layers
from flywheel.schema import Step, Trajectory, canonical_json
from flywheel.settings import Home


class Boundary:
    """Leaves out of one trajectory what its source declares: whole system prompts and tool schemas, and what is known
    as injected memory or retrieved context. It comes before redaction, and doing it again changes nothing.

    What is dropped leaves `<SYSTEM_PROMPT>` (and the like) in its place; where a digest is kept, it leaves
    `<SYSTEM_PROMPT:3f9a...>`, the same for the same text in the whole workspace.
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
        how = self._whole["tool_schemas"] or "keep"
        if how == "keep" or trajectory.tools == "[]":
            return trajectory
        self._left_out["tool_schemas", how] += 1
        self._digest = self._hashed(trajectory.tools) if how == "digest" else None
        return msgspec.structs.replace(trajectory, tools="[]")

    def step(self, step: Step) -> Step:
        """A step without what is not kept. Ids of prompt tokens, which say it too, go once something was left out."""
        content = step.content
        how = self._whole["system_prompt"] or "keep"
        if content and step.role == "system" and how != "keep":
            content = self._instead("system_prompt", how, content)
        elif content:
            for layer, part in self._parts:
                if self._is(part, step):
                    content = self._without(layer, part, content)
        if self._left_out and "prompt_" in step.metadata:
            step = msgspec.structs.replace(step, metadata=without(step.metadata, PROMPT_TOKENS))
        return step if content == step.content else msgspec.structs.replace(step, content=content)

    def about(self) -> dict[str, Any]:
        """What was left out so far: layer, how, how often, and the digest of tool schemas; empty when nothing was."""
        told: dict[str, Any] = {}
        for (layer, how), count in sorted(self._left_out.items()):
            told[layer] = {"how": how, "count": count + told.get(layer, {}).get("count", 0)}
        if self._digest:
            told["tool_schemas"]["digest"] = self._digest
        return told

    def _is(self, part: Layer, step: Step) -> bool:
        if part.role and part.role != step.role:
            return False
        if part.name is None:
            return True
        return part.name == step.tool_name or (
            '"name"' in step.metadata and msgspec.json.decode(step.metadata).get("name") == part.name
        )

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
        if not text or re.fullmatch(rf"<{name}(:[0-9a-f]{{12}})?>", text):
            return text
        self._left_out[layer, how] += 1
        return f"<{name}>" if how == "drop" else f"<{name}:{self._hashed(text)}>"

    def _hashed(self, text: str) -> str:
        return hmac.digest(self._key(), text.encode("utf-8", "replace"), "sha256").hex()[:12]


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

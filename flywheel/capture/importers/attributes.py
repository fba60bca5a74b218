"""Attributes of spans that spell out lists and objects, a member each: `PREFIX.0.role`, `PREFIX.0.content`."""

from __future__ import annotations

from typing import Any

from flywheel.capture.importers import dialects


def indexed(attributes: dict[str, Any], prefix: str) -> list[Any]:
    """The list that attributes named `PREFIX.N.…` spell out."""
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith(f"{prefix}."):
            continue
        *path, leaf = name[len(prefix) + 1 :].split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"the attribute {name} goes on from one that has a value itself")
        node[leaf] = value
    listed = _listed(tree)
    if not isinstance(listed, list):
        return []
    for item in listed:
        # OpenLLMetry writes a content of several parts as JSON text.
        if isinstance(item, dict) and item.get("role") != "tool" and isinstance(item.get("content"), str):
            parts = dialects.decoded(item["content"])
            if isinstance(parts, list) and parts and all(isinstance(p, dict) and "type" in p for p in parts):
                item["content"] = parts
    return listed


def _listed(tree: Any) -> Any:
    """A tree in which objects whose members are numbers are lists."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(name.isdecimal() for name in tree):
        return [_listed(tree[name]) for name in sorted(tree, key=int)]
    return {name: _listed(value) for name, value in tree.items()}

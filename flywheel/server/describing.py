"""The description of the interface: msgspec records as schemas of OpenAPI."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

JSON = "application/json"
LINES = "application/x-ndjson"


def schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type, or of any of several, in one piece: what it refers to stands where that is done."""
    if isinstance(kind, tuple):
        return {"anyOf": [schema(one) for one in kind]}
    (described,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    return _whole(described, parts)


def _whole(part: Any, parts: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_whole(item, parts) for item in part]
    if not isinstance(part, dict):
        return part
    if isinstance(name := part.get("$ref"), str):
        return _whole(parts[name], parts)
    return {key: _whole(value, parts) for key, value in part.items()}


def content(kind: Any, *media: str) -> dict[str, Any]:
    """The `content` of an answer: a record of a type as JSON, or in other media types."""
    return {name: {"schema": schema(kind)} for name in media or (JSON,)}


def answers(kind: Any, description: str, *media: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """What a route answers when all is well: for its `responses`."""
    return {status: {"description": description, "content": content(kind, *media)}}


def takes(kinds: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """What body a route takes that reads it by itself, by media type: for its `openapi_extra`."""
    described = {media: {"schema": schema(kind)} for media, kind in kinds.items()}
    return {"requestBody": {"required": required, "content": described}}


def description(app: FastAPI) -> dict[str, Any]:
    """The description of all routes; what cannot be read is 400 here, never FastAPI's 422."""
    whole = FastAPI.openapi(app)
    for path in whole["paths"].values():
        for route in path.values():
            route["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        whole.get("components", {}).get("schemas", {}).pop(name, None)
    whole["paths"] |= {path: {"post": _passed(path)} for path in PASSED}
    return whole


# Calls of models that are captured; every other path behind these `/v1` is passed on too.
PASSED = [
    f"/w/{{workspace}}{named}/v1/{call}"
    for named in ("", "/t/{trajectory}")
    for call in ("chat/completions", "responses", "messages")
]


def _passed(path: str) -> dict[str, Any]:
    names = [name for name in ("workspace", "trajectory") if f"{{{name}}}" in path]
    return {
        "tags": ["gateway"],
        "summary": f"Pass a call on to the model's server, and capture it ({path.rpartition('/v1/')[2]}).",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"type": "object"}}}},
        "responses": {"default": {"description": "What the model's server answers, as it comes; or an error of ours."}},
    }

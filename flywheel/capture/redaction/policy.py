"""Policies: what a workspace does about each kind of secret and personal data, in a file beside its record."""

from __future__ import annotations

import os
import re
import secrets
import uuid
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.schema import FlywheelError
from flywheel.settings import Home

Action = Literal["off", "mask", "hash", "drop"]
How = Literal["keep", "drop", "digest"]
KIND = re.compile(r"[A-Z][A-Z0-9_]{1,31}")


class Custom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of a workspace's own, in the syntax of RE2, which takes linear time whatever it is given.

    Of a group named `value` only that group is replaced. `flags` are RE2's: `i` (any case), `m` and `s`.
    """

    pattern: str
    flags: str = ""
    action: Action | None = None


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of a layer of the prompt, and how it is known: by its delimiters, a role or a message's name."""

    how: How
    between: tuple[str, str] | None = None
    role: str | None = None
    name: str | None = None


class Layers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The persistence boundary of one source: what is kept of the layers of its prompts.

    Injected memory and retrieved context have to say how they are known.
    """

    system_prompt: How | None = None
    tool_schemas: How | None = None
    injected_memory: tuple[Layer, ...] | Layer | None = None
    retrieved_context: tuple[Layer, ...] | Layer | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done about each kind: `off`, `mask` (`<EMAIL>`), `hash` (`<EMAIL:3f9a...>`) or `drop` the whole field.

    `kinds` say it for one kind, `default` for all others. `allow` are values that are never replaced, whatever their
    case; `allow_patterns` are patterns (RE2) that the whole value must match. `boundary` is told by source, `*` is
    for all that say nothing else.
    """

    default: Action = "mask"
    kinds: dict[str, Action] = {}
    custom: dict[str, Custom] = {}
    allow: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] = ()
    boundary: dict[str, Layers] = {}

    def action(self, kind: str) -> Action:
        """What is done about a kind."""
        custom = self.custom.get(kind)
        return self.kinds.get(kind) or (custom.action if custom else None) or self.default


DEFAULT = Policy()


def parsed(text: str) -> Policy:
    """A policy of TOML text.

    Raises:
        FlywheelError: where it is no TOML, names what there is not, or has a pattern that RE2 does not take.
    """
    from flywheel.capture.redaction.detector import detector, pattern

    try:
        policy = msgspec.toml.decode(text, type=Policy)
    except msgspec.MsgspecError as error:
        raise FlywheelError(f"this is no redaction policy: {error}; see docs/redaction.md") from error
    builtin = detector(DEFAULT).kinds
    for name, custom in policy.custom.items():
        if not KIND.fullmatch(name) or name in builtin:
            raise FlywheelError(
                f"a custom kind is named in two to 32 capitals, digits and '_' and is not built in; not {name!r}"
            )
        pattern(custom.pattern, custom.flags)
    for allowed in policy.allow_patterns:
        pattern(allowed)
    if unknown := sorted(policy.kinds.keys() - builtin - policy.custom.keys()):
        known = ", ".join(sorted(builtin))
        raise FlywheelError(f"there is no kind {', '.join(unknown)}; the kinds are: {known}")
    for source, layers in policy.boundary.items():
        for layer in ("injected_memory", "retrieved_context"):
            told = getattr(layers, layer) or ()
            for one in (told,) if isinstance(told, Layer) else told:
                if not (one.between or one.role or one.name) or "" in (one.between or ()):
                    raise FlywheelError(f"{layer} of {source} needs between = [BEGIN, END], a role or a name")
    return policy


def path(home: Home, workspace: str) -> Path:
    """Where the policy of a workspace lies."""
    return home.workspaces / f"{workspace}.policy.toml"


def save(home: Home, workspace: str, text: str) -> Policy:
    """Make TOML text the policy of a workspace; what was stored before stays as it is."""
    workspaces.require(home, workspace)
    policy = parsed(text)
    artifacts.write_bytes(path(home, workspace), text.encode())
    return policy


def of(home: Home, workspace: str) -> Policy:
    """The policy of a workspace; everything is masked where it has none.

    Raises:
        FlywheelError: when it cannot be read: what it forbids must not be stored.
    """
    place = path(home, workspace)
    if artifacts.remote(place):
        return _remembered(place.read_text()) if place.exists() else DEFAULT
    try:
        stat = place.stat()
    except FileNotFoundError:
        return DEFAULT
    return _read(place, stat.st_mtime_ns, stat.st_ino)


_remembered = lru_cache(maxsize=64)(parsed)


@lru_cache(maxsize=64)
def _read(place: Path, modified: int, inode: int) -> Policy:
    try:
        return parsed(place.read_text())
    except (FlywheelError, UnicodeDecodeError) as error:
        raise FlywheelError(f"{place} cannot be read: {error}") from error


def key(home: Home, workspace: str) -> bytes:
    """The secret of a workspace that its hashes are made with; made when it is first asked for, readable by its owner.

    It lies on this machine even where the workspace does not; whoever has it can try values out.
    """
    place = home.keys / workspace
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = place.with_name(f".{workspace}.{uuid.uuid4().hex}.tmp")
        try:
            with open(beside, "xb", opener=partial(os.open, mode=0o600)) as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, place)  # of several at once, the first wins
            artifacts.fsync_folder(place.parent)
        except FileExistsError:
            pass
        finally:
            beside.unlink(missing_ok=True)
    return place.read_bytes()

"""Claude Code sessions: JSON Lines whose messages name their parents, with sub-agents and rewritten histories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from flywheel.capture.importers import blocks, documents, halves, sessions
from flywheel.capture.importers.calls import Calls
from flywheel.capture.importers.documents import Piece
from flywheel.capture.importers.records import EXCERPT, Bad, Made, Origin, Record, utc
from flywheel.capture.importers.sessions import Line, Way
from flywheel.capture.validity import checked
from flywheel.schema import EndState, FlywheelError, Step

NAME = "claude-code"
SYNTHETIC = "<synthetic>"  # the model of messages that the program wrote in the assistant's place
REFUSED = (ValueError, OverflowError, RecursionError, FlywheelError)


class Message(msgspec.Struct):
    """A message as the API has it; a streamed one is split, a line a block, all under one id."""

    role: Literal["user", "assistant"]
    content: blocks.Content = None
    id: str | None = None
    model: str | None = None
    usage: blocks.Usage | None = None
    stop_reason: str | None = None


class Entry(msgspec.Struct, rename="camel"):
    """One line. What a tool did beyond what the model was shown (`toolUseResult`: whole files) is not read."""

    type: str
    uuid: str | None = None
    parent_uuid: str | msgspec.UnsetType | None = msgspec.UNSET
    logical_parent_uuid: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    is_sidechain: bool | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_api_error_message: bool | None = None
    timestamp: str | None = None
    version: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    message: Message | None = None
    summary: str | None = None
    leaf_uuid: str | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds a session."""
    keys = (b'"sessionId"', b'"uuid"', b'"type"')
    return any(line.lstrip().startswith(b"{") and all(key in line for key in keys) for line in head.splitlines())


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file: of each session the main one, its sub-agents, and each rewriting of either.

    A path of messages from a first to a last is a trajectory; two that part have what stands before in common, and
    each has it whole. A session that went on after it was read is a new trajectory, of which the old is a prefix.
    """
    with documents.opened(path) as data:
        lines, titles, bad = _lines(data, path)
        ways, ringed = sessions.ways(lines)
        bad += [_bad(line.piece, ValueError("its parents form a ring")) for line in ringed]
        found = sorted([*bad, *ways], key=lambda f: f.end if isinstance(f, Bad) else f.turns[-1].lines[-1].piece.end)
        for index, one in enumerate(found):
            if isinstance(one, Bad):
                yield one
                continue
            first, last = one.lines[0].piece, one.turns[-1].lines[-1].piece
            try:
                raw = [halves.decoded(line.piece.data) for line in one.lines]
                digest = hashlib.sha256(msgspec.json.encode(raw, order="sorted")).hexdigest()
                origin = Origin(
                    format=NAME,
                    workspace=workspace,
                    arrived_at=arrived_at,
                    path=path,
                    line=first.line,
                    index=index,
                    digest=digest,
                )
                trajectory, outcomes = _make(one, origin, titles)
                yield Record(checked(trajectory), tuple(outcomes), last.end)
            except REFUSED as error:
                yield _bad(first, error, last.end)


def _lines(data: Any, path: Path) -> tuple[list[Line], dict[str, str], list[Bad]]:
    """The lines of the tree, the titles of sessions by the line they were given at, and the bad lines."""
    lines: list[Line] = []
    titles: dict[str, str] = {}
    bad: list[Bad] = []
    latest: dict[tuple[str, str], str] = {}
    seen: dict[tuple[str, str], bytes] = {}
    for piece in documents.lines(data):
        try:
            entry = halves.decoded(piece.data, type=Entry)
            if entry.summary and entry.leaf_uuid:
                titles[entry.leaf_uuid] = entry.summary
            if entry.uuid is None and entry.type not in ("user", "assistant"):
                continue  # snapshots of files, queues, titles: about the session, not in it
            line = _line(entry, piece, path, latest)
            digest = hashlib.sha256(piece.data).digest()
            if (known := seen.setdefault((line.session, line.uuid), digest)) != digest:
                raise ValueError(f"another line of this session has its uuid, {line.uuid}")
            if known is digest:
                lines.append(line)
                latest[line.session, line.agent] = line.uuid
        except REFUSED as error:
            bad.append(_bad(piece, error))
    return lines, titles, bad


def _line(entry: Entry, piece: Piece, path: Path, latest: dict[tuple[str, str], str]) -> Line:
    """What the tree needs of a line; one that does not know of parents follows the last of its agent."""
    session = entry.session_id or Path(path.name.removesuffix(".gz")).stem
    agent = (entry.agent_id or "sub-agent") if entry.is_sidechain else ""
    message = entry.message if entry.type in ("user", "assistant") else None
    if message is None and entry.type in ("user", "assistant"):
        raise ValueError(f"this {entry.type} line has no message")
    found = [block for block, _ in blocks.parsed(message.content)] if message else []
    utc(entry.timestamp)  # a bad time is told of the line, and costs no other
    return Line(
        piece=piece,
        uuid=entry.uuid or f"line-{piece.line}",
        parent=latest.get((session, agent)) if entry.parent_uuid is msgspec.UNSET else entry.parent_uuid,
        session=session,
        agent=agent,
        follows=entry.logical_parent_uuid,
        role=message.role if message else "",
        message=message.id if message else None,
        answers=frozenset(block.tool_use_id or "" for block in found if block.type == "tool_result"),
    )


def _make(way: Way, origin: Origin, titles: dict[str, str]) -> Made:
    turns = [[halves.decoded(line.piece.data, type=Entry) for line in turn.lines] for turn in way.turns]
    entries = [entry for turn in turns for entry in turn]
    calls = Calls()
    steps: list[Step] = []
    notices: list[str] = []
    for turn in turns:
        said = [entry.message for entry in turn if entry.message]
        if said[0].role == "user":
            for entry, message in zip(turn, said, strict=True):
                about = {"is_meta": entry.is_meta, "is_compact_summary": entry.is_compact_summary}
                steps += blocks.user(message.content, calls, about, at=utc(entry.timestamp))
        elif said[0].model == SYNTHETIC:
            notices += [block.text for message in said for block, _ in blocks.parsed(message.content)]
        else:
            steps.append(_answer(turn[0], said, calls))
    if not steps:
        raise ValueError("nobody says anything on this path of the session")
    models = [e.message.model for e in entries if e.message and e.message.model not in (None, SYNTHETIC)]
    sessions_of = list(dict.fromkeys(line.session for line in way.lines))
    last, group = way.turns[-1].lines[-1], f"{NAME}-{sessions_of[0]}"
    title = next((titles[line.uuid] for line in reversed(way.lines) if line.uuid in titles), None)
    trajectory = origin.trajectory(
        task_id=f"{group}-{way.lines[0].uuid}" if last.agent else group,
        task_group=group,
        task_type=f"{NAME}/sub-agent" if last.agent else NAME,
        agent=NAME,
        agent_version=next((entry.version for entry in reversed(entries) if entry.version), ""),
        model=models[-1] or "" if models else "",
        provider="anthropic",
        end_state=_end(steps[-1], entries[-1]),
        started_at=utc(entries[0].timestamp),
        metadata={
            "session": sessions_of[0],
            # A session that went on under another name.
            "sessions": sessions_of if len(sessions_of) > 1 else None,
            "sub_agent": last.agent or None,
            "title": title,
            "cwd": entries[0].cwd,
            "git_branch": entries[0].git_branch,
            "leaf": last.uuid,
            # The line that stands before the first, and is not here: compacted, of another file, or broken.
            "follows": way.cut_from,
            # At how many places this session was rewritten: other trajectories share what stands before.
            "rewritten": way.branches or None,
            "notices": notices or None,
        },
        steps=tuple(steps),
    )
    return trajectory, []


def _answer(first: Entry, parts: list[Message], calls: Calls) -> Step:
    """One message of the assistant from its parts; the usage of the last is that of the whole."""
    content = [raw for part in parts for _, raw in blocks.parsed(part.content)]
    usage = next((part.usage for part in reversed(parts) if part.usage), blocks.Usage())
    about = {
        "message_id": parts[0].id,
        "model": parts[0].model,
        "stop_reason": next((part.stop_reason for part in reversed(parts) if part.stop_reason), None),
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
    }
    return blocks.assistant(
        content,
        calls,
        about,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.output_tokens,
        at=utc(first.timestamp),
    )


def _end(step: Step, entry: Entry) -> EndState:
    """Failed where an error of the API is the last word, completed where the assistant has it and calls nothing."""
    if entry.is_api_error_message:
        return "failed"
    return "completed" if step.role == "assistant" and not step.tool_calls else "partial"


def _bad(piece: Piece, error: Exception, end: int | None = None) -> Bad:
    excerpt = piece.data[:EXCERPT].decode("utf-8", "replace")
    return Bad(piece.line, f"line {piece.line}: {error}", excerpt, end or piece.end)

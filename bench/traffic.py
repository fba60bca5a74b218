"""Traffic of agents of any size, as captures and outcomes in a data folder, with planted and recorded duplicates.

python -m bench.traffic FOLDER --trajectories 100000 --seed 0 [--days 7] [--late 0.001]

`--late` adds to a folder that was filled so before: late outcomes that touch such a fraction of its trajectories.
Every row is a function of the seed, the number of trajectories and its place, so it is the same on every machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bench.language import Ints, Language, drawn, hexes, share
from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.outcomes.policy import RewardPolicy, checked
from flywheel.schema import OUTCOMES, STEP, TIMESTAMP, TOOL_CALL, TRAJECTORIES
from flywheel.settings import Home

WORKSPACE = "traffic"
START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 86_400_000_000  # microseconds, as all times here
CHUNK = 16_384

# Roles of the steps of an episode: system, user, assistant that calls one tool (a) or two (b), tool, assistant
# that only speaks (e). About twelve steps on average; one in twelve episodes has more than twenty.
PLOTS = ("suatate", "suateuatbtte", "suatatatbtteue", "subttateuatate", "suatatatateuatatatbtteue")
PLOT_SHARES = (0.25, 0.40, 0.12, 0.15, 0.08)
ROLES = {"s": "system", "u": "user", "a": "assistant", "b": "assistant", "e": "assistant", "t": "tool"}

# Words of a text: 16 quantiles of a skew distribution with about such a mean.
SKEW = np.array([0.25, 0.35, 0.45, 0.5, 0.55, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0, 1.15, 1.4, 1.7, 2.2, 2.7])
MEAN_WORDS = {"s": 0, "u": 40, "a": 14, "b": 14, "e": 56, "t": 48}
REASONING_WORDS, ARGUMENT_WORDS = 32, 6

# What a text has in common, run by run, with others of its task group.
SHARED = {"s": 0.0, "u": 0.5, "a": 0.1, "b": 0.1, "e": 0.1, "t": 0.25}

TYPES = ("refund", "booking", "triage", "billing", "files", "research")
TOOLS = ("search", "read", "update", "notify")
AGENTS = ("atlas", "beacon", "corvid")
VERSIONS = ("1.0", "1.1", "1.2", "2.0")
MODELS = (("small-8b", "vllm"), ("large-70b", "vllm"), ("thinker-32b", "gateway"))
SOURCES = ("recorder", "gateway", "import:tickets.jsonl", "import:nightly.jsonl")

KINDS = ("", "exact", "prefix", "near", "effects")
KIND_SHARES = (0.91, 0.02, 0.02, 0.03, 0.02)

PLANTED = pa.schema([("id", pa.string()), ("original", pa.string()), ("kind", pa.string()), ("jaccard", pa.float64())])

POLICY: RewardPolicy = checked("reopened", success_at=0.8)

# What counts as said, and as a word, where copies are measured: stated here, apart from the code that looks for them.
EPISODE = """
array_to_string(list_transform(list_filter(steps, lambda s: s.role <> 'system'), lambda s: concat_ws(' ', s.reasoning,
    s.content, array_to_string(list_transform(s.tool_calls, lambda c: c.name || ' ' || c.arguments), ' '))), ' ')
"""
WORD = r"[\p{L}\p{M}\p{N}_]+"

# Streams of numbers, one for each thing that is drawn.
(
    KIND,
    ORIGINAL,
    CONTENT,
    GROUP,
    TASK,
    PLOT,
    MAKER,
    NEARNESS,
    CUT,
    SOURCE,
    ID,
    OUTCOME,
    LATE,
    WORDING,
) = range(1, 15)


class Plan(msgspec.Struct, frozen=True):
    """What each trajectory is, before it is written: arrays with one entry each."""

    kind: np.ndarray[Any, Any]  # place in KINDS
    original: np.ndarray[Any, Any]  # the trajectory that this one copies; itself where it copies none
    group: np.ndarray[Any, Any]
    task: np.ndarray[Any, Any]
    plot: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]
    maker: np.ndarray[Any, Any]  # agent, version and model in one number
    changed: np.ndarray[Any, Any]  # the fraction of words that a near copy draws anew
    ids: tuple[Ints, Ints]
    arrived: np.ndarray[Any, Any]  # microseconds since the epoch


def settled(days: int = 7) -> datetime:
    """When every outcome has arrived but the late ones: an as-of time at which nothing is pending."""
    return START + timedelta(days=days + 9)


def later(days: int = 7) -> datetime:
    """An as-of time by which the late outcomes have arrived, too."""
    return settled(days) + timedelta(days=2)


def fill(
    home: Home,
    trajectories: int,
    seed: int = 0,
    days: int = 7,
    told: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Write captures and outcomes to the workspace `traffic` of a data folder; memory does not grow with their number.

    Gives the planted duplicates (`PLANTED`: which row copies which, and how) and keeps them in `planted.parquet`:
    exact copies, beginnings of a session, near copies with their exact Jaccard similarity over runs of five words, and
    episodes that did the same in other words (for these, too, it is measured). `told` hears how far it is.
    """
    workspaces.create(home, WORKSPACE, START)
    planned = plan(trajectories, seed, days)
    language = Language(seed, _openings(seed))
    planted: list[pa.Table] = []
    outcomes: list[pa.Table] = []
    for rows in _chunks(trajectories, days):
        written = captures(planned, language, rows, seed)
        warehouse.append(home.captures, written)
        outcomes.append(_outcomes(planned, rows, seed))
        if sum(map(len, outcomes)) > 500_000 or rows[-1] + 1 == trajectories:
            warehouse.append(home.outcomes, _named(pa.concat_tables(outcomes)))
            outcomes = []
        planted.append(_planted(planned, language, rows, seed, written))
        if told:
            told(int(rows[-1]) + 1, trajectories)
    found = pa.concat_tables(planted)
    artifacts.write_parquet(home.root / "planted.parquet", found)
    return found


def late(home: Home, trajectories: int, fraction: float, seed: int = 0, days: int = 7) -> int:
    """Append late outcomes, after all others: of so many trajectories the work is undone. Gives how many."""
    planned = plan(trajectories, seed, days)
    chosen = np.sort(
        np.argsort(drawn(_key(seed, LATE), np.arange(trajectories)), kind="stable")[: round(trajectories * fraction)]
    )
    at = np.full(len(chosen), int(settled(days).timestamp()) * 1_000_000 + DAY // 24)
    rows = _heard(planned, chosen, "reopened", np.zeros(len(chosen)), "desk", "", at - DAY // 48, at)
    warehouse.append(home.outcomes, _named(rows))
    return len(chosen)


def plan(trajectories: int, seed: int = 0, days: int = 7) -> Plan:
    """What each trajectory is. A copy copies an earlier row that is none, so no chain and no cluster grows."""
    place = np.arange(trajectories)

    def number(stream: int, at: Any = place) -> Ints:
        return drawn(_key(seed, stream), at)

    kind = _picked(share(number(KIND)), KIND_SHARES)
    kind[:1] = 0
    before = (number(ORIGINAL) % np.maximum(place, 1).astype(np.uint64)).astype(np.int64)
    original = np.where(kind == 0, place, np.maximum.accumulate(np.where(kind == 0, place, 0))[before])
    # Groups of very unequal sizes that do not grow with the number of trajectories, each spread over all days.
    blocks = -(-trajectories // 1000)
    sizes = 1 / np.arange(1, 41)
    group = original % blocks * 40 + _picked(share(number(GROUP, original)), sizes / sizes.sum())
    plot = _picked(share(number(PLOT, original)), PLOT_SHARES)
    steps = np.array([len(p) for p in PLOTS])[plot]
    cuts = _cuts()
    options = np.array([len(c) for c in cuts])[plot]
    table = np.array([c + [0] * (max(map(len, cuts)) - len(c)) for c in cuts])
    cut = table[plot, (number(CUT) % options.astype(np.uint64)).astype(np.int64)]
    jaccard = 0.66 + 0.31 * share(number(NEARNESS))
    # Each word that differs breaks the five runs it stands in.
    changed = 1 - (2 * jaccard / (1 + jaccard)) ** (1 / 5)
    return Plan(
        kind=kind,
        original=original,
        group=group,
        task=(number(TASK, original) % np.uint64(8)).astype(np.int64),
        plot=plot,
        steps=np.where(kind == KINDS.index("prefix"), cut, steps),
        maker=(number(MAKER, original) % np.uint64(len(AGENTS) * len(VERSIONS) * len(MODELS))).astype(np.int64),
        changed=np.where(kind == KINDS.index("near"), changed, 0.0),
        ids=(number(ID), number(ID, place + trajectories)),
        arrived=int(START.timestamp()) * 1_000_000 + (place * (days * DAY // trajectories)),
    )


def captures(planned: Plan, language: Language, rows: np.ndarray[Any, Any], seed: int) -> pa.Table:
    """Rows of `TRAJECTORIES`."""
    original = planned.original[rows]
    maker = planned.maker[rows]
    agent, version, model = maker // 12, maker // 3 % 4, maker % 3
    kind_of_task = planned.group[rows] % len(TYPES)
    source = (drawn(_key(seed, SOURCE), rows) % np.uint64(len(SOURCES))).astype(np.int64)
    group = pa.array([f"g{g:07d}" for g in planned.group[rows].tolist()])
    task = pa.array(
        [f"g{g:07d}-{t}" for g, t in zip(planned.group[rows].tolist(), planned.task[rows].tolist(), strict=True)]
    )
    arrived = planned.arrived[rows]
    imported = source >= 2
    steps = _steps(planned, language, rows, seed)
    whole = planned.steps[rows] == np.array([len(p) for p in PLOTS])[planned.plot[rows]]
    failed = drawn(_key(seed, MAKER), original) % np.uint64(16) == 0
    table = pa.table(
        [
            hexes(planned.ids[0][rows], planned.ids[1][rows]),
            _chosen([WORKSPACE], np.zeros(len(rows), int)),
            task,
            group,
            _chosen(list(TYPES), kind_of_task),
            _chosen(list(AGENTS), agent),
            _chosen(list(VERSIONS), version),
            _chosen([m for m, _ in MODELS], model),
            _chosen([p for _, p in MODELS], model),
            _chosen([_tools(t) for t in TYPES], kind_of_task),
            _chosen(["completed", "partial", "failed"], np.where(whole, failed * 2, 1)),
            pa.array(arrived - 20 * 60_000_000).cast(TIMESTAMP),
            pa.array(arrived).cast(TIMESTAMP),
            _chosen(list(SOURCES), source),
            pa.array(rows, mask=~imported),
            _chosen(["{}"], np.zeros(len(rows), int)),
            steps,
            pa.array(planned.steps[rows].astype(np.int32)),
        ],
        names=TRAJECTORIES.names[:-1],
    )
    return table.append_column("content_digest", _digests(table)).cast(TRAJECTORIES)


def _steps(planned: Plan, language: Language, rows: np.ndarray[Any, Any], seed: int) -> pa.ListArray:
    widths = planned.steps[rows]
    offsets = np.concatenate([[0], np.cumsum(widths)])
    owner = np.repeat(np.arange(len(rows)), widths)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], widths)
    longest = max(map(len, PLOTS))
    scenes = np.array([list(p.ljust(longest)) for p in PLOTS])
    scene = scenes[planned.plot[rows][owner], place]
    row, original = rows[owner], planned.original[rows][owner]
    kind = planned.kind[row]
    speaks = np.isin(scene, ["a", "b", "e"])
    calls = np.select([scene == "a", scene == "b"], [1, 2], 0)
    # Episodes that did the same: what the assistant says is its own, all else is the original's.
    own = speaks & (kind == KINDS.index("effects"))
    said = _key(seed, CONTENT, 64 * np.where(own, row, original) + place)
    done = _key(seed, CONTENT, 64 * original + place)
    group = _key(seed, GROUP, 64 * planned.group[row] + place)
    copies = _key(seed, WORDING, 64 * row + place)
    # A near copy came to a state of its own.
    reached = np.where(kind == KINDS.index("near"), copies, done)
    changed = planned.changed[row]

    def lengths(mean: np.ndarray[Any, Any], keys: Ints, stream: int) -> np.ndarray[Any, Any]:
        return np.round(mean * SKEW[(drawn(keys, stream) >> np.uint64(60)).astype(np.int64)]).astype(np.int64)

    def by_scene(values: dict[str, float]) -> np.ndarray[Any, Any]:
        return np.select([scene == s for s in values], list(values.values()))

    stock = np.where((scene == "e") & (place > 6), len(AGENTS) * len(VERSIONS) + 1 + planned.group[row] % 6, -1)
    opening = np.select([scene == "s", scene == "t"], [planned.maker[row] // 3, len(AGENTS) * len(VERSIONS)], stock)
    alike = {"copies": copies, "changed": changed}
    words = lengths(by_scene(MEAN_WORDS), said, 1_000_001)
    content = language.texts(
        said, words, opening=opening, record=scene == "t", group=group, shared=by_scene(SHARED), **alike
    )
    thinks = speaks & (planned.maker[row] % 3 == 2) & (calls > 0)
    thoughts = lengths(np.where(thinks, REASONING_WORDS, 0), said, 1_000_002)
    reasoning = language.texts(said + np.uint64(1), thoughts, **alike)
    call_step = np.repeat(np.arange(len(scene)), calls)
    call_place = np.arange(len(call_step)) - np.repeat(np.cumsum(calls) - calls, calls)
    call_keys = done[call_step] + (call_place + 2).astype(np.uint64)
    arguments = language.texts(
        call_keys,
        2 + lengths(np.full(len(call_step), ARGUMENT_WORDS), call_keys, 1_000_003),
        opening=np.full(len(call_step), len(AGENTS) * len(VERSIONS) + 7),
        record=np.ones(len(call_step), bool),
        copies=copies[call_step] + (call_place + 2).astype(np.uint64),
        changed=changed[call_step],
    )
    tool = (call_keys % np.uint64(len(TOOLS))).astype(np.int64)
    names = [f"{kind}_{verb}" for kind in TYPES for verb in TOOLS]
    named = planned.group[row][call_step] % len(TYPES) * len(TOOLS) + tool
    first_call = np.concatenate([[0], np.cumsum(calls)])[offsets[:-1]]
    call_number = np.arange(len(call_step)) - first_call[owner[call_step]]
    ids = [f"call_{n}" for n in range(longest)]
    # Results come in the order of their calls.
    is_tool = scene == "t"
    answered = np.cumsum(is_tool) - 1
    state = pa.concat_arrays([hexes(reached[is_tool], before='{"state":"', after='"}'), pa.array(["{}"])])
    tokens = (words + thoughts) * 4 // 3
    total = np.cumsum(tokens)
    before = total - np.concatenate([[0], total])[offsets[:-1]][owner] - tokens
    seconds = (1 + (said >> np.uint64(59)).astype(np.int64)) * 1_000_000
    clock = planned.arrived[row] - 20 * 60_000_000 + place * 30_000_000 + seconds
    columns: dict[str, pa.Array] = {
        "role": _chosen(list(ROLES.values()), np.select([scene == s for s in ROLES], list(range(len(ROLES))))),
        "content": content,
        "reasoning": _where(thinks, reasoning),
        "tool_calls": pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(calls)]).astype(np.int32)),
            pa.StructArray.from_arrays(
                [_chosen(ids, call_number), _chosen(names, named), arguments], fields=list(TOOL_CALL)
            ),
        ),
        "tool_call_id": _where(
            is_tool, _chosen(ids, np.where(is_tool, call_number[np.minimum(answered, len(call_number) - 1)], 0))
        ),
        "tool_name": _where(is_tool, _chosen(names, named[np.minimum(answered, len(named) - 1)])),
        "is_error": pa.array(done % np.uint64(23) == 0, mask=~is_tool),
        "prompt_tokens": pa.array(before + 160, mask=~speaks),
        "completion_tokens": pa.array(tokens, mask=~speaks),
        "at": pa.array(clock).cast(TIMESTAMP),
        "metadata": state.take(pa.array(np.where(is_tool, answered, int(is_tool.sum())))),
    }
    flat = pa.StructArray.from_arrays([columns[field.name] for field in STEP], fields=list(STEP))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat)


def _outcomes(planned: Plan, rows: np.ndarray[Any, Any], seed: int) -> pa.Table:
    """What is heard of each trajectory, three rows on average, without their ids."""
    base = _key(seed, OUTCOME, rows)
    minute = 60_000_000
    arrived = planned.arrived[rows]

    def chance(what: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return share(drawn(base, what))

    # Some tasks are harder than others, some makers better.
    skill = 0.45 + 0.25 * share(_key(seed, TASK, planned.group[rows])) + 0.02 * (planned.maker[rows] // 3 % 4)
    good = chance(1) < skill
    value = np.where(good, 0.8 + 0.2 * chance(2), 0.75 * chance(3))
    again = np.where(chance(4) < 0.85, value, chance(5))
    at = arrived + (5_000_000 + chance(6) * 10 * minute).astype(np.int64)
    rerun = arrived + DAY + (chance(7) * DAY).astype(np.int64)
    judged = arrived + ((10 + 50 * chance(8)) * minute).astype(np.int64)
    used = arrived + DAY + (chance(9) * 2 * DAY).astype(np.int64)
    undone = arrived + DAY // 2 + (chance(10) * 4.5 * DAY).astype(np.int64)
    vetoed = chance(11) < 0.04
    judgement = np.clip(value + 0.3 * (chance(12) - 0.5), 0, 1)

    def heard(where: Any, signal: str, values: Any, source: str, checker: str, seen: Any, **more: Any) -> pa.Table:
        # What is seen is heard of within the hour.
        told = seen + (chance(13) * 50 * minute).astype(np.int64)
        return _heard(planned, rows[where], signal, values[where], source, checker, seen[where], told[where], **more)

    return pa.concat_tables(
        [
            heard(chance(14) < 0.975, "checker", value, "ci", "1", at),
            heard(chance(15) < 0.10, "checker", again, "ci", "2", rerun),
            heard(chance(16) < 0.90, "judge", judgement, "judge", "1", judged),
            heard(chance(17) < 0.60, "kept", (chance(18) < 0.3 + 0.6 * good).astype(float), "repository", "", used),
            heard(vetoed, "reopened", np.zeros(len(rows)), "desk", "", undone),
            heard(vetoed & (chance(19) < 0.2), "reopened", np.ones(len(rows)), "desk", "", undone + DAY),
            heard(chance(20) < 0.38, "checker", value * chance(21), "ci", "1", at, step=2),
        ]
    )


def _heard(
    planned: Plan,
    rows: np.ndarray[Any, Any],
    signal: str,
    values: np.ndarray[Any, Any],
    source: str,
    checker: str,
    seen: np.ndarray[Any, Any],
    told: np.ndarray[Any, Any],
    step: int | None = None,
) -> pa.Table:
    """Rows of `OUTCOMES` without ids: values of two digits, times of whole seconds."""
    second = 1_000_000
    same = np.zeros(len(rows), int)
    return pa.table(
        {
            "workspace": _chosen([WORKSPACE], same),
            "trajectory_id": hexes(planned.ids[0][rows], planned.ids[1][rows]),
            "signal": _chosen([signal], same),
            "value": np.round(values, 2),
            "source": _chosen([source], same),
            "checker_version": _chosen([checker], same),
            "step_index": pa.array([step], pa.int32()).take(pa.array(same)),
            "observed_at": pa.array(seen // second * second).cast(TIMESTAMP),
            "arrived_at": pa.array(told // second * second).cast(TIMESTAMP),
            "comment": _chosen([""], same),
        }
    )


def _named(outcomes: pa.Table) -> pa.Table:
    """Rows of `OUTCOMES`, with the ids that `Outcome.id` gives them, in the order in which they arrived."""
    with warehouse.connect() as connection:
        connection.register("outcomes", outcomes)
        return (
            connection.sql(
                """
                SELECT sha256(concat_ws(chr(31), workspace, trajectory_id, signal, value::VARCHAR, source,
                    checker_version, coalesce(step_index::VARCHAR, 'None'),
                    strftime(observed_at, '%Y-%m-%dT%H:%M:%S+00:00')))[:32] AS id, *
                FROM outcomes ORDER BY arrived_at, id
                """
            )
            .to_arrow_table()
            .cast(OUTCOMES)
        )


def _digests(rows: pa.Table) -> pa.Array:
    """`schema.content_digest` of each row, as SQL over all at once."""
    with warehouse.connect() as connection:
        connection.register("given", rows.select(["tools", "steps"]))
        return (
            connection.sql(
                """
                SELECT sha256(json_array(tools, list_transform(steps, lambda s: json_array(
                    s.role, s.content, s.reasoning,
                    list_transform(s.tool_calls, lambda c: json_array(c.name, c.arguments)),
                    s.tool_name, s.is_error)))::VARCHAR) AS digest
                FROM given
                """
            )
            .to_arrow_table()["digest"]
            .combine_chunks()
        )


def _planted(planned: Plan, language: Language, rows: np.ndarray[Any, Any], seed: int, written: pa.Table) -> pa.Table:
    """The planted duplicates among these rows."""
    copies = rows[planned.kind[rows] > 0]
    kinds = planned.kind[copies]
    like = planned.original[copies]
    measured = np.isin(kinds, [KINDS.index("near"), KINDS.index("effects")])
    found = pa.table(
        [
            hexes(planned.ids[0][copies], planned.ids[1][copies]),
            hexes(planned.ids[0][like], planned.ids[1][like]),
            _chosen(list(KINDS), kinds),
        ],
        names=["id", "original", "kind"],
    )
    with warehouse.connect() as connection:
        connection.register("found", found)
        connection.register(
            "written", written.filter(pa.array(np.isin(rows, copies[measured]))).select(["id", "steps"])
        )
        originals = captures(planned, language, np.unique(like[measured]), seed)
        connection.register("originals", originals.select(["id", "steps"]))
        return (
            connection.sql(
                f"""
                WITH a AS ({_runs("written")}), b AS ({_runs("originals")})
                SELECT f.id, f.original, f.kind, len(list_intersect(a.runs, b.runs)) AS shared,
                    shared / (len(a.runs) + len(b.runs) - shared) AS jaccard
                FROM found AS f LEFT JOIN a ON a.id = f.id LEFT JOIN b ON b.id = f.original ORDER BY f.id
                """
            )
            .to_arrow_table()
            .select(PLANTED.names)
            .cast(PLANTED)
        )


def _runs(table: str) -> str:
    """SQL for the distinct runs of five words of each conversation of a table."""
    words = ", ".join(f"words[{place}:]" for place in range(1, 6))
    return f"""
        SELECT id, list_distinct(list_transform(list_zip({words}, true), lambda run: hash(run))) AS runs
        FROM (SELECT id, regexp_extract_all(lower({EPISODE}), '{WORD}') AS words FROM {table})
    """


def _chunks(trajectories: int, days: int) -> Iterator[np.ndarray[Any, Any]]:
    """The places of the trajectories, none of a chunk on two days."""
    bounds = [-(-day * trajectories // days) for day in range(days + 1)]
    for start, end in itertools.pairwise(bounds):
        for at in range(start, end, CHUNK):
            yield np.arange(at, min(at + CHUNK, end))


def _key(seed: int, stream: int, at: Any = 0) -> Ints:
    """The key of a stream of numbers, or of one of many."""
    return drawn(drawn(drawn(np.array([seed], np.uint64), 0), stream), at)


def _picked(chance: np.ndarray[Any, Any], shares: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which of several each chance picks, by their shares."""
    return np.minimum(np.searchsorted(np.cumsum(shares), chance, side="right"), len(shares) - 1)


def _cuts() -> list[list[int]]:
    """For each plot, after how many steps a recording may break off: where every call is answered."""
    return [[n for n in range(3, len(plot)) if plot[n - 1] in "te" and plot[n] != "t"] for plot in PLOTS]


def _chosen(values: list[str], places: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(values).take(pa.array(places))


def _where(mask: np.ndarray[Any, Any], values: pa.Array) -> pa.Array:
    """The values where the mask holds, else null."""
    return values.take(pa.array(np.arange(len(values)), mask=~mask))


def _openings(seed: int) -> list[str]:
    """What texts may begin with: the system prompt of each agent's versions, JSON heads, stock phrases."""
    language = Language(seed, [])
    prompts = language.texts(_key(seed, MAKER, np.arange(len(AGENTS) * len(VERSIONS))), np.full(12, 90)).to_pylist()
    stock = [
        "All done, and here is a summary of what I did and why. ",
        "I have looked into this for you; the details are below. ",
        "Thank you for waiting. This is what I found in the records: ",
        "Before I go on I need you to confirm the following. ",
        "That has been taken care of. Is there anything else I can help you with today? ",
        "I am not able to do this under the policy, for these reasons: ",
    ]
    return [*(f"You are an assistant. {p}" for p in prompts), '{"status":"ok","id":"', *stock, '{"id":"']


def _tools(kind: str) -> str:
    """The tools that are offered for a type of task, as OpenAI-style schemas."""
    properties = {"id": {"type": "string"}, "note": {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": ["id"]}
    return json.dumps(
        [
            {
                "type": "function",
                "function": {
                    "name": f"{kind}_{verb}",
                    "description": f"{verb} a {kind} record",
                    "parameters": parameters,
                },
            }
            for verb in TOOLS
        ]
    )


def main() -> None:
    """Fill a folder, or add late outcomes to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--late", type=float, metavar="FRACTION")
    options = parser.parse_args()
    home = Home(options.folder.resolve())
    began = time.perf_counter()
    if options.late is not None:
        count = late(home, options.trajectories, options.late, options.seed, options.days)
        print(f"{count:,} late outcomes; learned by {later(options.days).isoformat()}")
        return

    def told(done: int, of: int) -> None:
        print(f"\r{done:,} of {of:,} trajectories, {time.perf_counter() - began:.0f} s", end="", flush=True)

    planted = fill(home, options.trajectories, options.seed, options.days, told)
    print(f"\n{len(planted):,} of them copies; workspace {WORKSPACE!r}, settled by {settled(options.days).isoformat()}")


if __name__ == "__main__":
    main()

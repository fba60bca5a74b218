"""The examination of a version: everything that can be found in it, alone and against its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from flywheel.corpus.defence import drift, phrases, success
from flywheel.corpus.defence.findings import DefencePolicy, Finding, Limit

DUPLICATES = ("exact duplicate", "prefix duplicate", "same effects", "near duplicate")
# Candidates that came as far as the search for duplicates.
COMPARED = (*DUPLICATES, "capped", "held out", "kept")

ROWS = pa.schema(
    [("number", pa.int32()), ("kind", pa.string()), ("trajectory_id", pa.string()), ("excerpt", pa.string())]
)

# A cluster of fewer copies is no flood.
FLOOD = 10

SHIFTS = {
    "reward": "reward_shift",
    "n_steps": "length_shift",
    "words": "length_shift",
    "calls": "length_shift",
    "tools_called": "tool_shift",
    "task_type": "task_shift",
    "end_state": "task_shift",
    "agent": "origin_shift",
    "source": "origin_shift",
    "instructions": "origin_shift",
}

# Marks of `profile`, and the limits that they fall under.
MARKS = {
    "verdict": ("printed_verdict", "rows print a reward or a checker's word"),
    "answer": ("printed_answer", "rows show a reference answer in an observation"),
    "secret": ("known_answer", "rows let the agent read the reference answer that their metadata keep"),
    "tampering": ("tampering", "rows touch a grader's files, or write to tests"),
}

ADVICE = {
    "shift": "see what came in: flywheel corpus diff NAME@OLD NAME@NEW",
    "duplicates": "cap rows by source or task, or find out who sends them twice",
    "rows": "read the rows; leave them out with a filter on source, agent or task, or erase them",
    "overturned": "wait longer for late signals, or look at the checker",
}


class Side(NamedTuple):
    """A version as it is examined.

    `candidates`: one row each with id, kept, split, reason, detail, reward, success, state, task_group, task_type,
    agent, agent_version, source, end_state, n_steps, arrived_at and the columns of `profile.PROFILE`. `texts` gives
    id and steps of the rows of given ids, batch by batch.
    """

    candidates: pl.DataFrame
    texts: Callable[[pl.Series], Iterable[pa.Table]]

    @property
    def trained(self) -> pl.DataFrame:
        """The rows that are trained on, ordered by id."""
        return self.candidates.filter(pl.col("kept") & (pl.col("split") == "train")).sort("id")


class Found(NamedTuple):
    """Something that was found, before it is judged by its limit."""

    kind: str
    measure: float
    detail: str
    advice: str
    rows: list[tuple[str, str]]


class Examination(NamedTuple):
    """The findings, those that hold first, and the offending rows as a table of `ROWS`; how many rows came in."""

    findings: tuple[Finding, ...]
    rows: pa.Table
    came_in: int

    @property
    def graduates(self) -> bool:
        """Whether nothing holds the version."""
        return not any(f.level == "hold" for f in self.findings)


def examine(now: Side, parent: Side | None, heard: pl.DataFrame, policy: DefencePolicy) -> Examination:
    """Examine a version against its parent, or alone where there is none.

    `heard` has the latest value of each signal about each trajectory: columns trajectory_id, signal, value.
    The same inputs give the same findings in the same order, whatever the order of their rows.
    """
    trained = now.trained
    before = parent.trained if parent else trained.clear()
    came = trained.join(before.select("id"), on="id", how="anti").sort("id")
    found = [
        *_marked(came),
        *_disagreeing(came, heard, policy),
        *_effortless(came, before if parent else trained),
    ]
    found += list(_clusters(now.candidates, parent.candidates if parent else None))
    if parent:
        found += list(_shifts(trained, before, came, policy))
        found += list(_duplicates(now.candidates, parent.candidates, policy))
        found += list(_overturned(now.candidates, before))
        found += list(_easier(now.candidates, parent.candidates, policy))
        found += list(_phrases(now, parent, came, before, policy))
    return _judged(found, policy, len(came))


def _judged(found: Iterable[Found], policy: DefencePolicy, came: int) -> Examination:
    levels = {"hold": 0, "warn": 1, "note": 2}
    judged: list[tuple[str, Limit, Found]] = []
    for one in found:
        limit: Limit = getattr(policy, one.kind)
        level = limit.then if one.measure >= limit.at else "note"
        if limit.then != "ignore" and (level != "note" or one.rows):
            judged.append((level, limit, one))
    judged.sort(key=lambda item: (levels[item[0]], item[2].kind, -item[2].measure, item[2].detail))
    findings = tuple(
        Finding(
            number=number,
            kind=one.kind,
            level=level,  # pyright: ignore[reportArgumentType]
            measure=round(one.measure, 5),
            limit=limit.at,
            rows=len(one.rows),
            detail=one.detail,
            advice=one.advice,
        )
        for number, (level, limit, one) in enumerate(judged, 1)
    )
    rows = [
        {"number": number, "kind": one.kind, "trajectory_id": id, "excerpt": excerpt}
        for number, (_, _, one) in enumerate(judged, 1)
        for id, excerpt in one.rows
    ]
    return Examination(findings, pa.Table.from_pylist(rows, schema=ROWS), came)


def _marked(rows: pl.DataFrame) -> Iterator[Found]:
    marks = (
        rows.select("id", "marks").explode("marks").drop_nulls("marks").unnest("marks").sort("id", "kind", "excerpt")
    )
    for mark, (kind, text) in MARKS.items():
        own = marks.filter(pl.col("kind") == mark).unique("id", keep="first", maintain_order=True)
        if len(own):
            yield Found(
                kind,
                len(own) / len(rows),
                f"{len(own)} of {len(rows)} {text}",
                ADVICE["rows"],
                own.select("id", "excerpt").rows(),
            )


def _disagreeing(rows: pl.DataFrame, heard: pl.DataFrame, policy: DefencePolicy) -> Iterator[Found]:
    """Rows whose reward says success while a signal says failure."""
    if policy.evidence:
        signals = pl.Series("signal", policy.evidence)
    else:
        binary = heard.group_by("signal").agg(plain=pl.col("value").is_in([0.0, 1.0]).all())
        signals = binary.filter("plain")["signal"]
    against = heard.filter(pl.col("signal").is_in(signals.implode()) & (pl.col("value") < 0.5))
    own = rows.filter(pl.col("success")).select(trajectory_id="id").join(against, on="trajectory_id")
    if not len(own):
        return
    told = own.sort("trajectory_id", "signal").group_by("trajectory_id", maintain_order=True)
    told = told.agg(said=pl.format("{} says {}", "signal", "value").str.join(", "))
    counts = own.group_by("signal").len().sort("signal")
    by = ", ".join(f"{signal} of {n}" for signal, n in counts.iter_rows())
    detail = f"{len(told)} of {len(rows)} rows count as success, and evidence says no: {by}"
    yield Found("disagreement", len(told) / len(rows), detail, ADVICE["rows"], told.rows())


def _effortless(rows: pl.DataFrame, reference: pl.DataFrame) -> Iterator[Found]:
    ids = success.effortless(rows, reference)
    if ids:
        detail = f"{len(ids)} of {len(rows)} rows succeeded without a call, in kinds of task that are done with tools"
        yield Found("effortless_success", len(ids) / len(rows), detail, ADVICE["rows"], [(id, "") for id in ids])


def _came(candidates: pl.DataFrame, before: pl.DataFrame | None, which: pl.Expr) -> pl.DataFrame:
    """The candidates that meet a condition now, and did not before."""
    now = candidates.filter(which)
    return now if before is None else now.join(before.filter(which).select("id"), on="id", how="anti")


def _clusters(candidates: pl.DataFrame, before: pl.DataFrame | None) -> Iterator[Found]:
    """The largest cluster of copies among the candidates that came in."""
    compared = _came(candidates, before, pl.col("reason").is_in(COMPARED))
    copies = compared.filter(pl.col("reason").is_in(DUPLICATES))
    sizes = copies.group_by("detail").len("size").sort("size", "detail", descending=[True, False])
    if len(sizes) and sizes["size"][0] >= FLOOD:
        original, size = sizes.row(0)
        ids = copies.filter(pl.col("detail") == original)["id"].sort().to_list()
        detail = f"{size} of {len(compared)} candidates repeat {original}"
        yield Found("cluster", size / len(compared), detail, ADVICE["duplicates"], [(id, original) for id in ids])


def _duplicates(candidates: pl.DataFrame, before: pl.DataFrame, policy: DefencePolicy) -> Iterator[Found]:
    """A rise of the share of candidates that repeat others.

    The more there is, the more of what comes in was there before. So those that came in are measured by as many that
    arrived last in the parent, by half of it at most.
    """
    from scipy import stats

    compared = pl.col("reason").is_in(COMPARED)
    came, standing = _came(candidates, before, compared), before.filter(compared)
    last = standing.sort("arrived_at", "id").tail(min(len(came), len(standing) // 2))
    (dropped, of), (old, all) = [(int(side["reason"].is_in(DUPLICATES).sum()), len(side)) for side in (came, last)]
    if min(of, all) < policy.minimum_rows:
        return
    rise = dropped / of - old / all
    table = [[dropped, of - dropped], [old, all - old]]
    if rise > 0 and stats.fisher_exact(table, alternative="greater").pvalue < policy.chance:  # pyright: ignore[reportAttributeAccessIssue]
        detail = f"{dropped / of:.1%} of what came in repeats others; of what came in last before it, {old / all:.1%}"
        yield Found("duplicates", rise, detail, ADVICE["duplicates"], [])


def _overturned(candidates: pl.DataFrame, before: pl.DataFrame) -> Iterator[Found]:
    """Successes that were trained on, and have turned out to be none."""
    lost = (
        candidates.filter((pl.col("state") == "resolved") & ~pl.col("success"))
        .join(before.filter(pl.col("success")), on="id", how="semi")["id"]
        .sort()
        .to_list()
    )
    if lost:
        detail = f"{len(lost)} of {len(before)} rows of the parent have turned out to be no success"
        yield Found("overturned", len(lost) / len(before), detail, ADVICE["overturned"], [(id, "") for id in lost])


def _easier(candidates: pl.DataFrame, before: pl.DataFrame, policy: DefencePolicy) -> Iterator[Found]:
    """Ways of working that succeed far more often than they did."""
    resolved = pl.col("state") == "resolved"
    came, old = _came(candidates, before, resolved), before.filter(resolved)
    if min(len(came), len(old)) < policy.minimum_rows:
        return
    for way in success.easier(came, old, gain=policy.easier_success.at, chance=policy.chance):
        tools = " and ".join(way.tools) or "no tool"
        detail = (
            f"{way.task_type} with {tools}: {way.succeeded} of {way.rows} that came in succeeded, "
            f"where {way.usual:.0%} used to"
        )
        rows = [(id, tools) for id in way.trajectory_ids]
        yield Found("easier_success", way.rate - way.usual, detail, ADVICE["rows"], rows)


def _shifts(trained: pl.DataFrame, before: pl.DataFrame, came: pl.DataFrame, policy: DefencePolicy) -> Iterator[Found]:
    for rows, whole in ((trained, True), (came, False)):
        if min(len(rows), len(before)) < policy.minimum_rows:
            continue
        found = drift.shifts(before, rows)
        for shift in found:
            kind = SHIFTS[shift.attribute] if whole else "new_rows_shift"
            # Who sent what came in is new in every turn of the wheel: it counts by what it does to the whole.
            expected = not whole and SHIFTS[shift.attribute] == "origin_shift"
            if expected or shift.p * len(found) >= policy.chance or shift.effect == 0:
                continue
            scope = "" if whole else " of the rows that came in"
            detail = f"{shift.attribute}{scope}, {shift.measure} {shift.effect:.3f}: {_moved(shift)}"
            yield Found(kind, shift.effect, detail, ADVICE["shift"], [])


def _moved(shift: drift.Shift) -> str:
    """What moved most, in words."""
    if shift.measure == "Kolmogorov-Smirnov":
        return ", ".join(f"{name} {shift.before[name]:g} -> {shift.now[name]:g}" for name in ("mean", "median", "p90"))
    return ", ".join(f"{kind} {shift.before[kind]:.1%} -> {shift.now[kind]:.1%}" for kind in list(shift.now)[:3])


def _phrases(
    now: Side, parent: Side, came: pl.DataFrame, before: pl.DataFrame, policy: DefencePolicy
) -> Iterator[Found]:
    if min(len(came), len(before)) < policy.minimum_rows or policy.new_phrase.then == "ignore":
        return
    found = phrases.new_phrases(
        came, lambda: now.texts(came["id"]), before, lambda: parent.texts(before["id"]), policy.novelty
    )
    for phrase in found:
        tied = "".join(f"; {name} {value}" for name, value in phrase.tied.items())
        detail = (
            f"{phrase.phrase!r}, {phrase.side} in {phrase.rows} of {len(came)} rows that came in and "
            f"{phrase.groups} task groups, at most {phrase.parent_rows} of {len(before)} before{tied}"
        )
        rows = [(id, phrase.phrase) for id in phrase.trajectory_ids]
        yield Found(phrase.kind, phrase.share, detail, ADVICE["rows"], rows)

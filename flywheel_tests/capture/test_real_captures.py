"""Real logs of real agents: every record is accounted for, and no reference answer comes in with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.ingest import FileReport, ingest
from flywheel.schema import OUTCOMES, TRAJECTORIES, Trajectory, canonical_json, trajectory_of
from flywheel.settings import Home


def bring_in(home: Home, folder: Path) -> dict[str, FileReport]:
    """Ingest a folder twice: the second time adds nothing."""
    workspaces.create(home, "real")
    first = ingest(home, [folder], "real")
    again = ingest(home, [folder], "real")
    for report in (*first.files, first.total, *again.files, again.total):
        assert report.records == report.added + report.already_there + report.duplicates + report.quarantined
    assert (again.total.added, again.total.outcomes) == (0, 0)
    assert again.total.already_there == first.total.added
    return {"/".join(Path(r.path).parts[-2:]): r for r in first.files} | {"total": first.total}


def stored(home: Home) -> list[Trajectory]:
    rows = warehouse.read(home.captures, TRAJECTORIES, "real").to_pylist()
    return sorted((trajectory_of(row) for row in rows), key=lambda t: (t.source, json.loads(t.metadata)["record"]))


def rewards(home: Home, signal: str = "reward") -> dict[str, float]:
    """The outcomes of whole trajectories, by trajectory."""
    rows = warehouse.read(home.outcomes, OUTCOMES, "real").to_pylist()
    return {r["trajectory_id"]: r["value"] for r in rows if r["signal"] == signal and r["step_index"] is None}


def texts(trajectory: Trajectory) -> str:
    """All that a trajectory says anywhere, as one text."""
    parts = [trajectory.metadata, trajectory.tools, trajectory.task_id]
    for step in trajectory.steps:
        parts += [step.content or "", step.reasoning or "", step.metadata, *(c.arguments for c in step.tool_calls)]
    return "\n".join(parts)


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def not_made(references: list[dict[str, Any]], trajectory: Trajectory) -> list[dict[str, Any]]:
    """The arguments of reference actions with which the agent called nothing itself."""
    made = {canonical_json(json.loads(call.arguments)) for step in trajectory.steps for call in step.tool_calls}
    return [arguments for arguments in references if arguments and canonical_json(arguments) not in made]


def holds(text: str, arguments: dict[str, Any]) -> bool:
    """Whether a text holds arguments as JSON, written in any of the usual ways."""
    return any(
        form in text
        for form in (
            canonical_json(arguments),
            json.dumps(arguments),
            json.dumps(arguments, separators=(",", ":")),
            repr(arguments),
        )
    )


def test_tau_bench(home: Home, shared_data: Path) -> None:
    reports = bring_in(home, shared_data / "tau-bench")
    total = reports["total"]
    assert (total.added, total.steps, total.tool_calls, total.quarantined) == (200, 5308, 1164, 0)
    assert sum(rewards(home).values()) == 84
    trajectories = stored(home)
    assert {t.task_type for t in trajectories} == {"tau-bench/airline"}
    assert len({t.task_group for t in trajectories}) == 50
    assert {t.model for t in trajectories} == {"gpt-4o"}
    results = [step for t in trajectories for step in t.steps if step.role == "tool"]
    assert sum(step.is_error or False for step in results) == 73
    for t in trajectories:
        ids = [call.id for step in t.steps for call in step.tool_calls]
        answered = [step.tool_call_id for step in t.steps if step.role == "tool"]
        assert len(set(ids)) == len(ids)
        assert ids == answered

    runs = json.loads((shared_data / "tau-bench" / "gpt-4o-airline.json").read_bytes())
    searched = 0
    for run, t in zip(runs, trajectories, strict=True):
        said, task = texts(t), run["info"]["task"]
        assert task["instruction"] not in said
        checked = run["info"]["reward_info"] or {"info": {}}
        assert checked["info"].get("gt_data_hash", "no hash") not in said
        for arguments in not_made([a["kwargs"] for a in task["actions"]], t):
            searched += 1
            assert not holds(said, arguments), arguments
        assert "reward" not in json.loads(t.metadata)
    assert searched > 100


def test_tau2(home: Home, shared_data: Path) -> None:
    total = bring_in(home, shared_data / "tau2")["total"]
    assert (total.added, total.quarantined) == (62, 0)
    trajectories = stored(home)
    assert {(t.provider, t.model) for t in trajectories} == {("xai", "grok-3"), ("xai", "grok-4")}
    assert all(t.steps[0].role == "system" and t.started_at for t in trajectories)
    assert [t.end_state for t in trajectories].count("partial") == 1  # one ran out of steps
    assert rewards(home).keys() == {t.id for t in trajectories}

    given = rewards(home)
    by_simulation = {json.loads(t.metadata)["simulation"]: t for t in trajectories}
    searched = 0
    for path in sorted((shared_data / "tau2").glob("*.json")):
        results = json.loads(path.read_bytes())
        tasks = {task["id"]: task for task in results["tasks"]}
        for simulation in results["simulations"]:
            t = by_simulation[simulation["id"]]
            said = texts(t)
            assert given[t.id] == simulation["reward_info"]["reward"]
            criteria = tasks[simulation["task_id"]]["evaluation_criteria"]
            assert not any(text in said for text in criteria["nl_assertions"] or ())
            secret = tasks[simulation["task_id"]]["user_scenario"]["instructions"]
            assert not any(text in said for text in strings(secret) if len(text) > 60)
            for arguments in not_made([a["arguments"] for a in criteria["actions"] or ()], t):
                searched += 1
                assert not holds(said, arguments), arguments
    assert searched > 50


@pytest.mark.slow
def test_intercode(home: Home, shared_data: Path) -> None:
    reports = bring_in(home, shared_data / "intercode")
    assert {name: (r.records, r.added, r.quarantined) for name, r in reports.items()} == {
        "bash/gpt-3.5.json": (60, 60, 0),
        "bash/gpt-4.json": (60, 60, 0),
        "bash/text-davinci-003.json": (60, 60, 0),
        "sql/gpt-3.5.json": (1034, 1034, 0),
        "sql/gpt-4.json": (1034, 1034, 0),
        "sql/vicuna.json": (1033, 1033, 0),
        "total": (3281, 3281, 0),
    }
    assert (reports["total"].tool_calls, reports["total"].steps) == (24_417, 2 * 24_417 + 3281)
    # A reward for every action, the last one's and the best one's for every trajectory.
    assert reports["total"].outcomes == 24_417 + 2 * 3281
    # One model wrote rewards into its queries, and the database echoed them.
    assert reports["total"].redactions["LABEL"] == reports["sql/vicuna.json"].redactions["LABEL"] > 100
    trajectories = stored(home)
    assert not any("Reward: 1.0" in (s.content or "") for t in trajectories for s in t.steps if s.role == "tool")
    last, best = rewards(home), rewards(home, "max_reward")
    assert last.keys() == best.keys() == {t.id for t in trajectories}
    assert len({t.task_group for t in trajectories}) == 1034 + 60

    for path in sorted((shared_data / "intercode").glob("*/*.json")):
        mine = [t for t in trajectories if t.source == f"{path.parent.name}/{path.name}"]
        for episode, t in zip(json.loads(path.read_bytes()).values(), mine, strict=True):
            assert last[t.id] == episode["turn_history"]["rewards"][-1]
            assert best[t.id] == episode["summary"]["max_reward"]
            reference = (episode.get("info") or {}).get("eval_obs")
            seen = episode["turn_history"]["observations"]
            if isinstance(reference, str) and len(reference) > 20 and not any(reference in o for o in seen):
                assert reference not in texts(t)


def test_openinference(home: Home, shared_data: Path) -> None:
    total = bring_in(home, shared_data / "openinference")["total"]
    # Of the spans, one is a tool's run without a model; the Vercel ones stand around others, or are embeddings.
    assert (total.added, total.quarantined, total.outcomes) == (8, 1, 0)
    assert {t.end_state for t in stored(home)} == {"completed"}


def test_openllmetry(home: Home, shared_data: Path) -> None:
    total = bring_in(home, shared_data / "openllmetry")["total"]
    # Twice an agent's SDK reported to its tracing: a call, but none of a model.
    assert (total.format, total.added, total.quarantined, total.outcomes) == ("", 7, 2, 0)
    assert {t.provider for t in stored(home)} == {"openai", "anthropic"}


def test_what_stands_beside_traces_is_set_aside(home: Home, shared_data: Path) -> None:
    reports = bring_in(home, shared_data / "langfuse")
    expected = {name: report for name, report in reports.items() if name.endswith(".chatml.json")}
    assert all(report.quarantined == 1 and "of no known format" in report.error for report in expected.values())
    assert (len(expected), reports["total"].added, reports["total"].quarantined) == (3, 3, 3)

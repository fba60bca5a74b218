"""Two guarded workspaces with data in every place, and tokens of every kind, to try commands and routes with."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from flywheel import artifacts, warehouse
from flywheel.capture import access, workspaces
from flywheel.capture.access import ROLES, Role
from flywheel.capture.ingest import ingest
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.spec import Spec
from flywheel.preferences.pairs import PAIRS
from flywheel.release import history
from flywheel.rollout.storage import NODES, TREES
from flywheel.schema import outcomes_table, trajectories_table
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, trajectory, verdict

# The workspace whose tokens one has, and the one that must stay hidden: a word of each stands in every text, id and
# name that is its own, and nowhere else.
MINE, OTHER = "north", "south"
WORDS = {MINE: "aurora", OTHER: "zephyr"}
ROWS = {MINE: 3, OTHER: 5}

Kind = Literal["none", "wrong", "expired", "revoked", "other workspace", "too low"]
# What each kind of token is refused as.
REASONS: dict[Kind, str] = {
    "none": "missing",
    "wrong": "unknown",
    "expired": "expired",
    "revoked": "revoked",
    "other workspace": "workspace",
    "too low": "role",
}


def fill(home: Home, workspace: str) -> None:
    """A workspace with captures, outcomes, a quarantined line, a corpus, a policy, trees, pairs, a report."""
    word, rows = WORDS[workspace], ROWS[workspace]
    workspaces.create(home, workspace)
    told = [
        msgspec.structs.replace(
            of := trajectory(n),
            id=f"{word}-{n}",
            workspace=workspace,
            task_id=f"{word}-task-{n}",
            task_group=f"{word}-group-{n}",
            source=f"{word}.jsonl",
            steps=tuple(msgspec.structs.replace(step, content=f"{word} {step.content}") for step in of.steps),
        )
        for n in range(rows)
    ]
    facts = [
        msgspec.structs.replace(verdict(n, 1.0, "reward"), workspace=workspace, trajectory_id=f"{word}-{n}")
        for n in range(rows)
    ]
    warehouse.append(home.captures, trajectories_table(told))
    warehouse.append(home.outcomes, outcomes_table(facts))
    bad = home.root / f"{word}-bad.jsonl"
    bad.write_text(json.dumps({"messages": [{"role": "user", "content": word}]}) + f'\n{{"{word}": broken\n')
    ingest(home, [bad], workspace)
    snapshot(home, f"{word}-corpus", Spec(workspace=workspace, near_duplicates=None), MONDAY)
    _made(home, word)


def _made(home: Home, word: str) -> None:
    """What training, rollouts, evaluation and release leave, as far as anybody asks whose it is."""
    policy = home.policies / f"sft-{word}"
    lineage = {"kind": "sft", "base": {"model": "scratch"}, "data": {"corpus": f"{word}-corpus", "version": 1}}
    artifacts.write_json(policy / "lineage.json", lineage)
    artifacts.write_json(policy / artifacts.MANIFEST, {"kind": "sft", "weights": word})
    trees = home.trees / f"sft-{word}-trees"
    tree = {"tree_id": word, "task_id": f"{word}-task", "actor": f"sft-{word}"}
    artifacts.write_parquet(trees / "trees.parquet", TREES.empty_table().from_pylist([tree], schema=TREES))
    artifacts.write_parquet(trees / "nodes.parquet", NODES.empty_table().from_pylist([{"tree_id": word}], schema=NODES))
    artifacts.write_json(trees / "stats.json", {"actor": f"sft-{word}@{word}"})
    artifacts.write_json(trees / artifacts.MANIFEST, {"digest": word})
    pairs = home.pairs / f"sft-{word}-trees-gates"
    artifacts.write_parquet(pairs / "pairs.parquet", PAIRS.empty_table().from_pylist([{"pair_id": word}], schema=PAIRS))
    artifacts.write_json(pairs / artifacts.MANIFEST, {"digest": word})
    report = {
        "id": f"report-{word}",
        "created_at": MONDAY.isoformat(),
        "corpus": f"{word}-corpus@v1",
        "candidate": f"sft-{word}",
        "suite": {"environments": {}},
        "entrants": [{"name": f"sft-{word}", "policy_id": f"sft-{word}"}],
        "success": [],
        "comparisons": [],
        "slices": [],
        "slice_comparisons": [],
        "tables": {word: [{"said": word}]},
    }
    artifacts.write_json(home.reports / f"report-{word}" / "report.json", report)
    event = history.Event(
        kind="promote", policy_id=f"sft-{word}", digest=word, previous=None, report=f"report-{word}", at=MONDAY
    )
    with history.alone(home):
        history.append(home, event)


def two(home: Home) -> Home:
    """A data folder with both workspaces, of which nobody guards either; what is the other's is the newest."""
    for workspace in (MINE, OTHER):
        fill(home, workspace)
    return home


class Tokens:
    """The tokens of both workspaces, made when they are asked for."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._made: dict[tuple[str, tuple[Role, ...]], str] = {}
        for workspace in (MINE, OTHER):
            self.of(workspace, "admin")

    def of(self, workspace: str, *roles: Role) -> str:
        """A token that does: for one workspace or "*", with exactly these roles."""
        if (workspace, roles) not in self._made:
            self._made[workspace, roles], _ = access.issue(self.home, workspace, roles, name="good")
        return self._made[workspace, roles]

    def bad(self, kind: Kind, workspace: str, role: Role) -> str | None:
        """A token that does not do for a role in a workspace, of one kind of those."""
        if kind == "none":
            return None
        if kind == "wrong":
            return f"fw_{'0' * 64}"
        if kind == "other workspace":
            return self.of(MINE if workspace == OTHER else OTHER, "admin")
        if kind == "too low":
            return self.of(workspace, *(other for other in ROLES if other not in (role, "admin")))
        now = datetime.now(UTC)
        if kind == "expired":
            return access.issue(
                self.home, workspace, ["admin"], name="old", expires_in=timedelta(days=1), now=now - timedelta(days=2)
            )[0]
        token, grant = access.issue(self.home, workspace, ["admin"], name="gone")
        access.revoke(self.home, workspace, grant.id)
        return token

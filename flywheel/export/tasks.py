"""Trajectories task by task: what several tries of one task teach together, as preference pairs or step records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import networkx as nx

from flywheel.export import choose
from flywheel.export.choose import Chosen
from flywheel.export.source import Made, Tell
from flywheel.export.stepwise import DPO, VERSIONS, Stepwise
from flywheel.preferences import captured
from flywheel.preferences.captured import Judged
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import KEPT, of_tree
from flywheel.rollout.tree import ROOT
from flywheel.settings import Home
from flywheel.views import trl
from flywheel.views.graded import Graded, Row

SILENT = "the assistant says nothing"
UNGRADED = "no verdict"
# The reasons of gates are those of branch points; these are of trajectories that no branch point has part in.
ALONE = "no other try of the task began alike"
ALIKE = "no other try of the task did anything else"
BETWEEN = "neither the best step nor the usual one"


class Tasks(Stepwise):
    """Pairs (`trl-dpo`) or step records (`step-records`) of what was chosen; memory holds one task's trajectories.

    `gates` are those of pairs; how much of all pairs a decision may make up is not looked at, since that would change
    with the page.
    """

    def __init__(self, home: Home, name: str, chosen: Chosen, gates: Gates | None = None) -> None:
        self._home, self._gates = home, gates or Gates()
        self._chosen = chosen if "task_id" in chosen.keys.column_names else choose.by_task(home, chosen)
        self.name, self.version, self.lost = name, VERSIONS[name], trl.PARTS
        self.left_out, self.total = chosen.left_out, chosen.keys.num_rows
        shown = {k: v for k, v in msgspec.to_builtins(self._gates).items() if k != "decision_share"}
        self.said = chosen.said | ({"gates": shown} if name == DPO else {})

    def page(self, after: str | None, limit: int | None) -> tuple[Tasks, str | None]:
        """So many tasks; a cursor is the task that they begin behind."""
        some, following = self._chosen.page(after, limit, by="task_id")
        return Tasks(self._home, self.name, some, self._gates), following

    def made(self, tell: Tell) -> Iterator[Made]:
        """The rows of one task after the other, in their order."""
        tries = zip(self._chosen.keys["task_id"].to_pylist(), choose.graded(self._home, self._chosen), strict=True)
        for _, group in itertools.groupby(tries, key=lambda one: one[0]):
            judged = _judged([given for _, given in group], tell)
            yield self._pairs(judged, tell) if self.name == DPO else _records(judged)

    def _pairs(self, judged: list[Judged], tell: Tell) -> Made:
        made: list[Row] = []
        written = 0
        for tree in captured.trees(judged):
            found = {row["node_id"]: row for row in of_tree(tree, self._gates)}
            used: set[str] = set()
            for row in found.values():
                if row["reason"] == KEPT:
                    sides = {s: list(tree.nodes[row[f"{s}_node"]]["trajectories"]) for s in ("chosen", "rejected")}
                    used.update(*sides.values())
                    made.append(trl.pair(row) | {f"{side}_trajectories": ids for side, ids in sides.items()})
            written += len(used)
            reasons = {node: row["reason"] for node, row in found.items()}
            for id in tree.nodes[ROOT]["trajectories"]:
                if id not in used:
                    tell(_why(tree, reasons, id), 1)
        return Made(written=written, rows=made)


def _records(judged: list[Judged]) -> Made:
    return Made(written=len(judged), rows=captured.step_records(judged))


def _judged(graded: list[Graded], tell: Tell) -> list[Judged]:
    found: list[Judged] = []
    for given in graded:
        if given.success is None:
            tell(UNGRADED, 1)
        elif not any(step.role == "assistant" for step in given.trajectory.steps):
            tell(SILENT, 1)
        else:
            credit = float(given.success) if given.reward is None else given.reward
            found.append(Judged(given.trajectory, given.success, credit))
    return found


def _why(tree: nx.DiGraph, reasons: dict[int, str], id: str) -> str:
    """Why a trajectory is on no side of a pair: what its first branch point is not a pair for."""
    if tree.nodes[ROOT]["multiplicity"] == 1:
        return ALONE
    node: int | None = ROOT
    while node is not None:
        if reasons.get(node, "one action") != "one action":
            return BETWEEN if reasons[node] == KEPT else reasons[node]
        node = next((c for c in tree.successors(node) if id in tree.nodes[c]["trajectories"]), None)
    return ALIKE

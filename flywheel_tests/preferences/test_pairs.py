"""Gates on literal trees: which branch points make a pair, and which reason is given for the others."""

import networkx as nx
import pytest

from flywheel.preferences import storage
from flywheel.preferences.backup import Value
from flywheel.preferences.gates import Gates, better
from flywheel.preferences.pairs import balanced, branches, kept, label, pairs, reasons
from flywheel.rollout.tree import TreeConfig, grow
from flywheel.schema import FlywheelError, Step
from flywheel.settings import Home
from flywheel_tests.rollout.test_tree import hasty_or_careful
from flywheel_tests.rollout.toy import Boxes, Script, call, say


def boxes(n: int = 2) -> list[nx.DiGraph]:
    """Even boxes are open, odd ones locked; the actor mostly pushes, and then says "Done" three times of four."""
    return grow(Boxes(), Boxes().tasks("train", n, 0), Script(hasty_or_careful), TreeConfig(), seed=0)


def star(*children: tuple[Step, int, bool], seen: Step | None = None) -> nx.DiGraph:
    """A tree of one branch point: (step, how often it was sampled, whether it succeeded)."""
    graph = nx.DiGraph(tree_id="t", task_id="k", task_group="g", environment="boxes", tools="[]")
    opening = (Step(role="user", content="Open b1."), *([seen] if seen else []))
    bare = {"observations": (), "multiplicity": 1, "logprob": -1.0, "success": None, "credit": None}
    graph.add_node(0, **bare | {"step": None, "observations": opening, "hash": "root"})
    for node, (step, times, success) in enumerate(children, 1):
        end = {"step": step, "multiplicity": times, "success": success, "credit": float(success), "hash": f"h{node}"}
        graph.add_node(node, **bare | end)
        graph.add_edge(0, node)
    return graph


def only_reason(tree: nx.DiGraph, gates: Gates = Gates()) -> str:
    [row] = branches([tree], gates).to_pylist()
    return row["reason"]


def test_looking_is_preferred_where_pushing_is_in_vain():
    table = branches(boxes(), Gates(decision_share=1.0))
    assert reasons(table) == {"kept": 3, "one action": 2, "margin": 1, "settled": 1}
    rows = kept(table).select(["task_id", "decision", "chosen_value", "rejected_value", "weight"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("train-0-0", "boxes: say Done > say Sorry", 1.0, 0.0, 1),
        ("train-0-0", "boxes: say Done > say Sorry", 1.0, 0.0, 1),
        ("train-0-1", "boxes: look > push", 1.0, 0.0, 1),
    ]
    assert pairs(boxes(), Gates(decision_share=1.0)).equals(kept(table))


def test_the_rejected_step_is_the_usual_one_among_the_worse():
    tree = star((say("Done."), 1, True), (say("Sorry."), 1, False), (call("push"), 2, False))
    [row] = pairs([tree], Gates(probability=0.5)).to_pylist()
    assert (row["decision"], row["weight"], row["margin"]) == ("boxes: say Done > push", 1, 1.0)


def test_each_reason():
    done, sorry = say("Done."), say("Sorry.")
    error = Step(role="tool", content="no", is_error=True)
    assert only_reason(star((done, 4, True))) == "one action"
    assert only_reason(star((done, 2, True), (sorry, 2, False), seen=error)) == "error before"
    assert only_reason(star((done, 2, False), (sorry, 2, False))) == "settled"
    assert only_reason(star((done, 2, True), (sorry, 2, False)), Gates(margin=1.1)) == "margin"
    same = star((done, 2, True), (sorry, 2, False))
    same.nodes[2]["hash"] = same.nodes[1]["hash"]
    assert only_reason(same) == "same state"
    assert only_reason(star((done, 2, True), (sorry, 2, False)), Gates(probability=1.1)) == "uncertain"
    failing = star((done, 2, True), (sorry, 2, False))
    failing.nodes[1]["observations"] = (error,)
    assert only_reason(failing) == "error in the chosen step"


def test_every_branch_point_is_a_pair_or_has_a_reason():
    table = branches(boxes(20), Gates(per_task=1, decision_share=0.4))
    counted = reasons(table)
    assert counted == {
        "one action": 20,
        "kept": 16,
        "enough of this task": 10,
        "margin": 10,
        "settled": 10,
        "enough of this decision": 4,
    }
    assert sum(counted.values()) == table.num_rows
    assert set(kept(table)["decision"].value_counts().field("counts").to_pylist()) == {8}


@pytest.mark.parametrize(
    ("won", "lost", "siblings", "expected"),
    [((4, 4), (0, 4), 2, 0.996), ((4, 4), (0, 4), 4, 0.976), ((3, 4), (1, 4), 2, 0.897), ((2, 4), (2, 4), 2, 0.5)],
)
def test_the_probability_of_being_better(won: tuple[int, int], lost: tuple[int, int], siblings: int, expected: float):
    def value(hits: int, visits: int) -> Value:
        return Value(success=hits / visits, credit=0, visits=visits, success_variance=0, credit_variance=0)

    assert better(value(*won), value(*lost), siblings, False, False) == pytest.approx(expected, abs=0.002)


def test_ends_are_certain():
    sure = Value(success=1.0, credit=1.0, visits=1, success_variance=0, credit_variance=0)
    lost = Value(success=0.0, credit=0.0, visits=1, success_variance=0, credit_variance=0)
    assert better(sure, lost, 4, True, True) == 1.0


def test_pooled_pairs_are_balanced_by_decision():
    once = pairs(boxes(), Gates(decision_share=1.0))
    assert balanced(once, 0.4)["decision"].to_pylist() == ["boxes: say Done > say Sorry", "boxes: look > push"]
    assert balanced(once, 1.0).equals(once)


def test_labels():
    assert label(call("push")) == "push"
    assert label(say("Sorry, no.")) == "say Sorry"
    assert label(Step(role="assistant")) == "say nothing"


def test_saved_pairs_come_back_with_their_counts(home: Home):
    table = branches(boxes(), Gates(decision_share=1.0))
    manifest = storage.save(home.pairs / "p", table, Gates())
    assert storage.load(home.pairs / "p").equals(kept(table))
    assert (manifest["pairs"], manifest["branch_points"]) == (3, 7)
    assert manifest["decisions"] == {"boxes: say Done > say Sorry": 2, "boxes: look > push": 1}
    with pytest.raises(FlywheelError, match="flywheel pairs"):
        storage.load(home.pairs / "none")

"""Trees: what is sampled alike becomes one node, forks leave their parents alone, saved trees come back equal."""

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from flywheel.environments.protocol import Situation
from flywheel.rollout import storage
from flywheel.rollout.paths import successful
from flywheel.rollout.statistics import statistics
from flywheel.rollout.tree import TreeConfig, grow, steps_to
from flywheel.schema import Step
from flywheel.settings import Home
from flywheel_tests.rollout.toy import Boxes, Script, call, say


def hasty_or_careful(situation: Situation, n: int) -> list[Step]:
    """Pushes three times of four at the start and looks once; then says what fits what it saw."""
    seen = [step.content for step in situation.steps if step.role == "tool"]
    if not seen:
        return [call("push"), call("push"), call("look"), call("push")][:n]
    if seen == ["locked"]:
        return [say("Sorry, no.")] * n
    if seen == ["open"]:
        return [call("push")] * n
    return [say("Done, it is open."), say("Done, open it is."), say("Sorry."), say("Done, it is open.")][:n]


def grown(n: int = 2, **config: int) -> list[nx.DiGraph]:
    boxes = Boxes()
    return grow(boxes, boxes.tasks("train", n, 0), Script(hasty_or_careful), TreeConfig(**config), seed=0)


def shape(tree: nx.DiGraph) -> list[tuple[int, str, int, bool | None]]:
    """(depth, what was done, multiplicity, success) of each node but the root, in order."""
    return [
        (
            found["depth"],
            found["step"].content or found["step"].tool_calls[0].name,
            found["multiplicity"],
            found["success"],
        )
        for _, found in sorted(tree.nodes(data=True))
        if found["step"]
    ]


def test_siblings_that_do_the_same_are_one_node():
    [_, locked] = grown()
    assert shape(locked) == [
        (1, "push", 3, None),
        (1, "look", 1, None),
        # "Done, open it is." is another text for the same end.
        (2, "Done, it is open.", 3, False),
        (2, "Sorry.", 1, False),
        (2, "Sorry, no.", 4, True),
    ]
    assert locked.graph["samples"] == 12


def test_steps_to_a_node_are_what_an_agent_would_have_seen():
    [_, locked] = grown()
    assert [(s.role, s.content) for s in steps_to(locked, 5)] == [
        ("system", "You open boxes."),
        ("user", "Open b1."),
        ("assistant", None),
        ("tool", "locked"),
        ("assistant", "Sorry, no."),
    ]


def test_a_tree_over_its_budget_still_follows_each_path_to_its_end():
    [opened] = grown(1, max_nodes=3)
    leaves = [found for node, found in opened.nodes(data=True) if opened.out_degree(node) == 0]
    assert [leaf["terminal"] for leaf in leaves] == [True, True]
    assert [opened.out_degree(node) for node in sorted(opened)] == [2, 1, 1, 0, 1, 0]


def test_a_path_that_is_cut_at_the_greatest_depth_is_scored_as_it_stands():
    [opened] = grown(1, max_depth=1)
    assert shape(opened) == [(1, "push", 3, False), (1, "look", 1, False)]
    assert not opened.nodes[1]["terminal"]


def test_saved_trees_come_back_equal(home: Home):
    trees = grown()
    found = statistics(trees, cpu_seconds=1.0, single_step_cpu_ms=1.0)
    digest = storage.save(home.trees / "t", trees, found)
    assert storage.save(home.trees / "again", trees, found) == digest
    for before, after in zip(trees, storage.load(home.trees / "t"), strict=True):
        assert nx.utils.graphs_equal(before, after)
        assert before.graph == after.graph


def test_statistics_count_samples_nodes_and_open_questions():
    found = statistics(grown(), cpu_seconds=2.0, single_step_cpu_ms=1000.0)
    # Of the two roots only the locked box tells its two branches apart by what can be reached: pushing is in vain.
    assert (found.trees, found.samples, found.nodes, found.branch_points, found.informative) == (2, 28, 12, 7, 3)
    assert round(found.duplicates, 3) == round(1 - 12 / 28, 3)
    assert round(found.node_cost, 3) == round(2 / 12, 3)


def test_successful_paths_are_trajectories():
    rows = successful(grown()).to_pylist()
    assert [(row["task_id"], row["steps"][-1]["content"]) for row in rows] == [
        ("train-0-0", "Done, it is open."),
        ("train-0-0", "Done, it is open."),
        ("train-0-1", "Sorry, no."),
    ]


@given(st.permutations(range(4)))
def test_a_tree_does_not_depend_on_the_order_of_tasks(order: list[int]):
    boxes = Boxes()
    tasks = boxes.tasks("train", 4, 0)
    config = TreeConfig(together=2)
    in_order = grow(boxes, tasks, Script(hasty_or_careful), config, seed=0)
    shuffled = grow(boxes, [tasks[i] for i in order], Script(hasty_or_careful), config, seed=0)
    assert [shape(tree) for tree in shuffled] == [shape(in_order[i]) for i in order]

"""Trees of captured trajectories: literal tries of a task in, what they have in common and what it teaches out."""

import json
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.preferences import captured
from flywheel.preferences.backup import backup
from flywheel.preferences.captured import Judged
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import KEPT, of_tree
from flywheel.rollout.tree import ROOT, actions, steps_to
from flywheel.schema import Step, ToolCall
from flywheel_tests.corpus.conftest import trajectory

ASKED = (Step(role="system", content="You help."), Step(role="user", content="A refund, please."))


def call(name: str, arguments: str = "{}", **said) -> Step:
    return Step(role="assistant", tool_calls=(ToolCall(id="c", name=name, arguments=arguments),), **said)


def found(content: str, **how) -> Step:
    return Step(role="tool", content=content, tool_call_id="c", tool_name="look_up", **how)


def say(content: str, **said) -> Step:
    return Step(role="assistant", content=content, **said)


def tried(id: str, success: bool, *steps: Step, reward: float | None = None) -> Judged:
    made = msgspec.structs.replace(trajectory(0), id=id, steps=(*ASKED, *steps))
    return Judged(made, success, float(success) if reward is None else reward)


LOOKED = [
    tried("a", True, call("look_up", '{"order": 1, "fast": true}', content="Let me see."), found("paid"), say("Done.")),
    tried("b", True, call("look_up", '{"fast":true,"order":1}'), found("paid"), say("Done.")),
    tried("c", False, call("look_up", '{"order": 1, "fast": true}'), found("paid"), say("No.")),
    tried("d", False, say("No refunds.")),
]


def test_tries_are_one_path_for_as_long_as_they_do_and_see_the_same():
    [tree] = captured.trees(LOOKED)
    looked, refused = actions(tree, ROOT)
    assert tree.nodes[ROOT]["trajectories"] == ("a", "b", "c", "d")
    assert (tree.nodes[looked]["trajectories"], tree.nodes[refused]["trajectories"]) == (("a", "b", "c"), ("d",))
    assert steps_to(tree, looked) == (*ASKED, LOOKED[0].trajectory.steps[2], found("paid"))
    ends = {tree.nodes[node]["trajectories"]: tree.nodes[node]["success"] for node in actions(tree, looked)}
    assert ends == {("a", "b"): 1.0, ("c",): 0.0}
    assert {node: round(value.success, 2) for node, value in backup(tree).items() if node in (ROOT, looked)} == {
        ROOT: 0.5,
        looked: 0.67,
    }


def test_the_step_that_led_to_success_is_chosen():
    [tree] = captured.trees(LOOKED)
    [pair] = [row for row in of_tree(tree, Gates()) if row["reason"] == KEPT and row["node_id"] != ROOT]
    assert (json.loads(pair["chosen"])["content"], json.loads(pair["rejected"])["content"]) == ("Done.", "No.")
    assert [tree.nodes[pair[f"{side}_node"]]["trajectories"] for side in ("chosen", "rejected")] == [("a", "b"), ("c",)]


def test_an_action_that_was_followed_by_different_things_is_worth_what_it_led_to_on_the_whole():
    """The same look-up is no choice against itself, however it went on."""
    tries = [
        tried("a", True, call("look_up"), found("paid"), say("Done.")),
        tried("b", False, call("look_up"), found("timeout", is_error=True), say("Sorry.")),
        tried("c", False, call("look_up"), found("timeout", is_error=True), say("Sorry.")),
    ]
    [tree] = captured.trees(tries)
    [looked] = actions(tree, ROOT)
    assert [tree.nodes[node]["step"] for node in tree.successors(looked)] == [None, None]
    assert actions(tree, looked) == []
    assert backup(tree)[looked].success == 1 / 3
    assert {row["reason"] for row in of_tree(tree, Gates())} == {"one action"}
    [after] = [node for node in tree.successors(looked) if tree.nodes[node]["trajectories"] == ("a",)]
    assert steps_to(tree, after)[-1] == found("paid")


def test_an_end_from_which_others_went_on():
    tries = [tried("a", False, call("look_up"), found("paid")), LOOKED[1]]
    tries[1] = tried("b", True, call("look_up"), found("paid"), say("Done."))
    [tree] = captured.trees(tries)
    [looked] = actions(tree, ROOT)
    assert [(tree.nodes[n]["step"] is None, tree.nodes[n]["trajectories"]) for n in tree.successors(looked)] == [
        (True, ("a",)),
        (False, ("b",)),
    ]


def test_other_openings_and_other_tools_are_other_trees():
    other = msgspec.structs.replace(LOOKED[1].trajectory, id="x", tools="[{}]")
    longer = msgspec.structs.replace(
        LOOKED[1].trajectory, id="y", steps=(Step(role="user", content="Hello."), say("Hi."))
    )
    trees = captured.trees([LOOKED[0], Judged(other, True, 1.0), Judged(longer, True, 1.0)])
    assert [tree.nodes[ROOT]["trajectories"] for tree in trees] == [("a",), ("x",), ("y",)]
    assert len({tree.graph["tree_id"] for tree in trees}) == 3


def test_the_step_records_of_each_try_are_its_own():
    rows = captured.step_records(LOOKED)
    assert [
        (row["trajectory_uid"], row["step_index"], round(row["value"], 2), round(row["advantage"], 2)) for row in rows
    ] == [
        ("a", 0, 0.5, 0.17),
        ("a", 1, 0.67, 0.33),
        ("b", 0, 0.5, 0.17),
        ("b", 1, 0.67, 0.33),
        ("c", 0, 0.5, 0.17),
        ("c", 1, 0.67, -0.67),
        ("d", 0, 0.5, -0.5),
    ]
    first, second = rows[0], rows[2]
    assert first["group"] == second["group"] != rows[1]["group"]
    # Each as it was said, though they did the same.
    assert first["response"]["content"] == "Let me see." and not second["response"]["content"]
    assert [step["role"] for step in rows[1]["prompt"]] == ["system", "user", "assistant", "tool"]


def test_log_probabilities_are_those_that_were_captured():
    tokens = [{"token": "D", "logprob": -0.25}, {"token": "one", "logprob": -0.5}]
    told = [{"logprobs": {"content": tokens}}, {"logprobs": tokens}, {"logprobs": [-0.25]}, {"logprobs": []}, {}]
    tries = [tried(str(n), True, say("Done.", metadata=json.dumps(metadata))) for n, metadata in enumerate(told)]
    assert [row["old_logprob"] for row in captured.step_records(tries)] == [-0.75, -0.75, None, None, None]


STEPS = st.sampled_from([say("A"), say("B"), call("look_up"), call("pay"), found("x"), found("y"), ASKED[1]])


@settings(deadline=None)
@given(
    tries=st.lists(st.tuples(st.lists(STEPS, max_size=6), st.booleans(), st.floats(0, 1)), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_nothing_is_lost_and_no_order_matters(tries: list[tuple[list[Step], bool, float]], seed: int):
    judged = [tried(f"t{n}", won, say("Hello."), *steps, reward=credit) for n, (steps, won, credit) in enumerate(tries)]
    [tree] = captured.trees(judged)
    leaves = [tree.nodes[node] for node in tree if not tree.out_degree(node)]
    assert sorted(id for leaf in leaves for id in leaf["trajectories"]) == sorted(j.trajectory.id for j in judged)
    for node in tree:
        through = [id for child in tree.successors(node) for id in tree.nodes[child]["trajectories"]]
        assert not through or sorted(through) == sorted(tree.nodes[node]["trajectories"])
    values = backup(tree)
    assert abs(values[ROOT].credit - sum(j.credit for j in judged) / len(judged)) < 1e-9
    rows = captured.step_records(judged)
    for one in judged:
        own = [row for row in rows if row["trajectory_uid"] == one.trajectory.id]
        assert len(own) == sum(step.role == "assistant" for step in one.trajectory.steps)
        reached = sum(row["step_reward"] for row in own)
        assert reached == one.credit
        assert abs(sum(row["advantage"] for row in own) - (reached - values[ROOT].credit)) < 1e-9
    mixed = captured.step_records(random.Random(seed).sample(judged, len(judged)))

    def told(records: list[dict]) -> dict:
        return {(row["trajectory_uid"], row["step_index"]): round(row["value"], 9) for row in records}

    assert told(mixed) == told(rows)

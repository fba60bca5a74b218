"""What states do: carry out calls, answer bad ones, fork, and know right from wrong."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import environments
from flywheel.environments.calls import Call, calling, saying
from flywheel.environments.cases import case_of
from flywheel.environments.proof import fork_holds, random_walk, replay
from flywheel.environments.protocol import Task
from flywheel.schema import FlywheelError, Step, ToolCall

DESK = environments.get("desk")
FILES = environments.get("files")


def desk_task(scenario: str, *, refusal: bool) -> Task:
    return next(
        task
        for task in DESK.tasks("train", 500, 0)
        if f"/{scenario}1" in task.group and (not case_of(task).act) == refusal
    )


def files_task(scenario: str, usual: bool) -> Task:
    return next(
        task
        for task in FILES.tasks("train", 500, 0)
        if f"/{scenario}1" in task.group and (case_of(task).act == (case_of(task).hasty,)) == usual
    )


def raw(name: str, arguments: str) -> Step:
    return Step(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=arguments),))


def test_a_cancellation_that_is_looked_up_first():
    task = desk_task("cancel", refusal=False)
    order = case_of(task).hasty.arguments["order"]
    state = DESK.reset(task)
    [answer] = state.step(calling(Call("lookup_order", {"order": order})))
    assert (answer.content, answer.tool_call_id, answer.tool_name, answer.is_error) == (
        "status is packed",
        "call_0",
        "lookup_order",
        False,
    )
    state.step(calling(Call("cancel_order", {"order": order})))
    assert not state.score().success and state.score().credit == 0.7
    assert state.step(saying(f"Done, {order} is cancelled.")) == ()
    assert state.done and state.score().success and state.score().credit == 1.0


def test_acting_at_once_succeeds_where_the_facts_happen_to_allow_it():
    task = desk_task("cancel", refusal=False)
    state = replay(DESK, task, [calling(case_of(task).hasty), saying("Done.")])
    assert state.score().success and not state.score().checks["looked"]


def test_acting_at_once_fails_where_they_do_not():
    task = desk_task("cancel", refusal=True)
    score = replay(DESK, task, [calling(case_of(task).hasty), saying("Done.")]).score()
    assert (score.success, score.credit, score.checks["unharmed"]) == (False, 0.0, False)


def test_a_refusal_needs_evidence():
    task = desk_task("cancel", refusal=True)
    look = calling(*case_of(task).looks)
    assert replay(DESK, task, [saying("Sorry, no.")]).score().credit == 0
    assert replay(DESK, task, [look, saying("Sorry, no.")]).score().success
    assert replay(DESK, task, [look, saying("Done.")]).score().credit == 0.5


def test_looking_after_the_deed_is_no_evidence():
    task = desk_task("cancel", refusal=True)
    walk = [calling(case_of(task).hasty), calling(*case_of(task).looks), saying("Sorry, no.")]
    assert not replay(DESK, task, walk).score().checks["looked"]


def test_a_setting_goes_where_the_live_file_points():
    task = files_task("setting", usual=False)
    case = case_of(task)
    state = FILES.reset(task)
    [answer] = state.step(calling(case.looks[0]))
    assert answer.content == "override"
    state.step(calling(case.act[0]))
    state.step(saying("Done."))
    assert state.score().success
    assert not replay(FILES, task, [calling(case.hasty), saying("Done.")]).score().success


def test_a_locked_log_stays_and_either_way_of_seeing_the_lock_is_evidence():
    task = files_task("clean", usual=False)
    folder = case_of(task).looks[0].arguments["path"]
    listing = Call("list_dir", {"path": folder})
    reading = Call("read_file", {"path": f"{folder}/lock"})
    [answer] = FILES.reset(task).step(calling(listing))
    assert answer.content == "config live lock log override"
    for look in (listing, reading):
        assert replay(FILES, task, [calling(look), saying("Sorry, it is locked.")]).score().success


def test_parallel_calls_are_answered_in_order_by_their_ids():
    task = desk_task("cancel", refusal=False)
    order = case_of(task).hasty.arguments["order"]
    looks = calling(Call("lookup_order", {"order": order}), Call("check_stock", {"order": order}))
    answers = DESK.reset(task).step(looks)
    assert [a.tool_call_id for a in answers] == ["call_0", "call_1"]
    assert [a.tool_name for a in answers] == ["lookup_order", "check_stock"]


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("launch_rocket", "{}", "Error: unknown tool."),
        ("lookup_order", "{", "Error: wrong arguments."),
        ("lookup_order", "[]", "Error: wrong arguments."),
        ("lookup_order", "null", "Error: wrong arguments."),
        ("lookup_order", "{}", "Error: wrong arguments."),
        ("lookup_order", '{"order": 17}', "Error: wrong arguments."),
        ("lookup_order", '{"order": "O17", "more": "x"}', "Error: wrong arguments."),
        ("lookup_order", '{"order": "nothing"}', "Error: nothing there."),
        ("refund_order", '{"order": "nothing"}', "Error: nothing there."),
        ("lookup_order", "[" * 100_000, "Error: wrong arguments."),
        ("lookup_order", '{"order": ' + "1" * 5000 + "}", "Error: wrong arguments."),
        ("lookup_order", '{"order": "\\ud800"}', "Error: wrong arguments."),
    ],
)
def test_bad_calls_are_answered_with_an_error_and_change_nothing(name, arguments, answer):
    state = DESK.reset(desk_task("cancel", refusal=False))
    before = state.hash()
    [step] = state.step(raw(name, arguments))
    assert (step.content, step.is_error) == (answer, True)
    assert state.hash() == before


def test_a_deed_cannot_be_done_twice():
    task = desk_task("refund", refusal=False)
    refund = calling(case_of(task).hasty)
    state = replay(DESK, task, [refund])
    [step] = state.step(refund)
    assert (step.content, step.is_error) == ("Error: already done.", True)


def test_an_ended_episode_takes_no_more_steps():
    state = replay(DESK, desk_task("cancel", refusal=False), [saying("Done.")])
    with pytest.raises(FlywheelError, match="has ended"):
        state.step(saying("Done."))


def test_evidence_and_deeds_are_in_the_hash_and_idle_looks_are_not():
    task = desk_task("cancel", refusal=False)
    case = case_of(task)
    order = case.hasty.arguments["order"]
    at_first = replay(DESK, task, []).hash()
    assert replay(DESK, task, [calling(Call("check_stock", {"order": order}))]).hash() == at_first
    assert replay(DESK, task, [calling(case.looks[0])]).hash() != at_first
    assert replay(DESK, task, [calling(case.hasty)]).hash() != at_first


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(environments.names()), seed=st.integers(0, 2**32), index=st.integers(0, 20))
def test_any_action_on_a_fork_gives_one_hash_and_leaves_the_parent_alone(name, seed, index):
    place = environments.get(name)
    task = place.tasks("train", index + 1, seed % 100)[index]
    walk = random_walk(place, task, random.Random(seed))
    for i, action in enumerate(walk):
        assert fork_holds(place, task, walk[:i], action)
    assert replay(place, task, walk).hash() == replay(place, task, walk).hash()


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(environments.names()), tool=st.text(max_size=12), arguments=st.text(max_size=40))
def test_no_text_that_a_model_may_write_raises(name, tool, arguments):
    place = environments.get(name)
    state = place.reset(place.tasks("train", 1, 0)[0])
    for called in (tool, *place.toolbox.parameters):
        [answer] = state.step(raw(called, arguments))
        assert answer.role == "tool" and answer.is_error
    assert 0 <= state.score().credit <= 1


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(environments.names()), seed=st.integers(0, 2**32))
def test_credit_is_one_exactly_when_successful(name, seed):
    place = environments.get(name)
    task = place.tasks("heldout", 1, seed % 1000)[0]
    score = replay(place, task, random_walk(place, task, random.Random(seed))).score()
    assert (score.credit == 1) == score.success
    assert 0 <= score.credit <= 1

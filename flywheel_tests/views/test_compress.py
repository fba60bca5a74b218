"""Compression: what is protected stays, calls keep their results, and what was left out can be told."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.schema import Step, ToolCall, Trajectory
from flywheel.views.compress import OPENS, characters, compressed
from flywheel_tests.views.records import ARRIVED, graded


def record(*steps: Step) -> Trajectory:
    return Trajectory(
        id="t",
        workspace="desk",
        task_id="k",
        task_group="k",
        task_type="desk",
        agent="a",
        end_state="completed",
        arrived_at=ARRIVED,
        source="x",
        steps=steps,
    )


def asked(number: int, words: str = "Look it up please.") -> tuple[Step, Step]:
    call = ToolCall(id=f"c{number}", name="look", arguments="{}")
    return (
        Step(role="assistant", content=words, tool_calls=(call,)),
        Step(role="tool", content="found " * 10, tool_call_id=call.id, tool_name="look"),
    )


LONG = record(
    Step(role="system", content="You help."),
    Step(role="user", content="Find ten things."),
    *(step for number in range(10) for step in asked(number)),
    Step(role="assistant", content="Done."),
)


def test_a_short_one_stays_as_it_is():
    assert compressed(LONG, 10_000, characters) == (LONG, None)


def test_the_oldest_of_the_middle_are_left_out_and_named():
    short, told = compressed(LONG, 300, characters)
    assert told is not None
    # System, user, the first call with its result; then the marker; then the last ones.
    assert (told.first, told.end, told.by, told.over) == (4, 14, "marker", False)
    marker = Step(role="user", content=f"{OPENS}10 earlier steps were left out here.")
    assert short.steps == (*LONG.steps[:4], marker, *LONG.steps[14:])
    assert len(set(told.step_sha256)) == 10
    assert told.tokens > 300 >= told.tokens_left
    # What was measured is what a second look measures.
    assert compressed(short, told.tokens_left, characters) == (short, None)
    assert compressed(short, told.tokens_left - 1, characters)[1] is not None


def test_what_is_protected_alone_may_be_too_long():
    short, told = compressed(LONG, 50, characters)
    assert told is not None and told.over
    # The last four begin with a result, so its call stays too.
    assert short.steps == (*LONG.steps[:4], short.steps[4], *LONG.steps[-5:])
    tiny = record(Step(role="user", content="x" * 400))
    same, told = compressed(tiny, 10, characters)
    assert same == tiny and told is not None and (told.first, told.end, told.over) == (0, 0, True)


def test_a_summary_takes_the_place_of_the_marker():
    seen: list[int] = []

    def summarise(steps, most):
        seen.append(len(steps))
        return "Some things were found."

    short, told = compressed(LONG, 300, characters, summarise)
    assert told is not None and told.by == "summary" and seen == [told.end - told.first]
    assert short.steps[told.first] == Step(role="user", content=f"{OPENS}Some things were found.")


def down(steps, most):
    raise TimeoutError("no answer")


@pytest.mark.parametrize(
    ("summarise", "error"),
    [
        (down, "TimeoutError: no answer"),
        (lambda steps, most: " ", "the summary is blank"),
        (lambda steps, most: "far too long " * 50, "the summary has 168 tokens, and 15 are allowed"),
        (lambda steps, most: None, "AttributeError: 'NoneType' object has no attribute 'strip'"),
    ],
)
def test_a_summary_that_fails_costs_nothing(summarise, error):
    short, told = compressed(LONG, 300, characters, summarise)
    assert told is not None and (told.by, told.error) == ("marker", error)
    assert (short.steps[told.first].content or "").endswith("left out here.")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(given=graded(), budget=st.integers(1, 80), last=st.integers(0, 5))
def test_protected_steps_stay_and_calls_keep_their_results(given, budget, last):
    of = given.trajectory
    short, told = compressed(of, budget, characters, last=last)
    if told is None:
        assert short == of
        return
    region = range(told.first, told.end)
    if not region:
        assert short == of
        return
    assert short.steps == (*of.steps[: told.first], short.steps[told.first], *of.steps[told.end :])
    protected = {next(i for i, s in enumerate(of.steps) if s.role == step.role) for step in of.steps}
    protected |= set(range(max(len(of.steps) - last, 0), len(of.steps)))
    assert protected.isdisjoint(region)
    # No result stands without the step that it followed, nor a step without the results behind it.
    assert of.steps[told.first].role != "tool"
    assert told.end == len(of.steps) or of.steps[told.end].role != "tool"
    assert told.tokens_left < told.tokens
    assert told.over == (told.tokens_left > budget)

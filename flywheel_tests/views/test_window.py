"""A long conversation is cut so that each assistant turn is trained exactly once, in a window that fits."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.schema import Step, ToolCall
from flywheel.views.window import recent, windows

SYSTEM = Step(role="system", content="Help.")
TASK = Step(role="user", content="Go on.")


def turn(number: int, answer: str = "done") -> tuple[Step, ...]:
    """A call and its result."""
    call = ToolCall(id=f"c{number}", name="step", arguments=f'{{"n": {number}}}')
    return (
        Step(role="assistant", reasoning=f"thought {number}", tool_calls=(call,)),
        Step(role="tool", content=answer, tool_call_id=call.id, tool_name="step"),
    )


def test_what_fits_is_one_window(plain):
    steps = (SYSTEM, TASK, *turn(1), *turn(2))
    cut = windows(plain, steps, "[]", 4000)
    [window] = cut.windows
    assert (window.shown, window.trained, cut.left_out) == ((0, 1, 2, 3, 4, 5), (2, 4), ())


def test_a_window_opens_with_the_task_and_shows_whole_groups(plain):
    steps = (SYSTEM, TASK, *(step for n in range(8) for step in turn(n)))
    cut = windows(plain, steps, "[]", 700)
    assert len(cut.windows) > 1
    assert [t for w in cut.windows for t in w.trained] == list(range(2, 18, 2))
    for window in cut.windows:
        assert window.shown[:2] == (0, 1)
        assert window.shown[2] % 2 == 0
        assert window.rendered.text.startswith("<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\nGo on.")
    # Context from before is shown, and not trained again.
    assert cut.windows[1].shown[2] < cut.windows[1].trained[0]


def test_a_turn_that_fits_in_no_window_is_told(plain):
    long = Step(role="assistant", content="x" * 900)
    cut = windows(plain, (SYSTEM, TASK, *turn(1), long, TASK, *turn(2)), "[]", 500)
    assert cut.left_out == (4,)
    assert [t for w in cut.windows for t in w.trained] == [2, 6]


def test_a_result_that_is_too_long_does_not_cost_its_call(plain):
    cut = windows(plain, (SYSTEM, TASK, *turn(1, "y" * 900), *turn(2)), "[]", 400)
    assert (cut.windows[0].shown, cut.windows[0].trained) == ((0, 1, 2), (2,))
    assert (cut.windows[1].shown, cut.windows[1].trained) == ((0, 1, 4, 5), (4,))


def test_a_greeting_before_the_first_user_is_trained_once(plain):
    steps = (SYSTEM, Step(role="assistant", content="Hi!"), TASK, *turn(1), *turn(2), *turn(3))
    cut = windows(plain, steps, "[]", 420)
    assert [t for w in cut.windows for t in w.trained] == [1, 3, 5, 7]
    assert all(w.shown[:3] == (0, 1, 2) for w in cut.windows)


def test_a_template_that_forgets_reasoning_gets_windows_that_end_where_it_would(forgetful):
    steps = (SYSTEM, TASK, *turn(1), *turn(2), TASK, *turn(3))
    cut = windows(forgetful, steps, "[]", 4000)
    assert [w.trained for w in cut.windows] == [(2, 4), (7,)]
    assert "thought 2" in cut.windows[0].rendered.text
    assert "thought 2" not in cut.windows[1].rendered.text


LENGTH = st.integers(0, 120)
GROUP = st.one_of(
    st.builds(lambda n: (Step(role="user", content="u" * n),), LENGTH),
    st.builds(lambda n: (Step(role="assistant", content="a" * n + "."),), LENGTH),
    st.builds(lambda n, m: turn(n, "r" * m), LENGTH, LENGTH),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(GROUP, max_size=8), limit=st.integers(60, 900), greeting=st.booleans())
def test_nothing_is_lost_or_trained_twice(plain, marked, forgetful, groups, limit, greeting):
    opening = (SYSTEM, Step(role="assistant", content="Hi!"), TASK) if greeting else (SYSTEM, TASK)
    steps = (*opening, *(step for group in groups for step in group))
    turns = [i for i, step in enumerate(steps) if step.role == "assistant"]
    for tokenizer in (plain, marked, forgetful):
        cut = windows(tokenizer, steps, "[]", limit)
        trained = [t for w in cut.windows for t in w.trained]
        assert sorted([*trained, *cut.left_out]) == turns
        assert trained == sorted(trained)
        for window in cut.windows:
            assert len(window.rendered.input_ids) <= limit
            assert list(window.shown) == sorted(set(window.shown))
            assert window.shown[: len(opening)] == tuple(range(len(opening))) or window.trained == (1,)
            rest = window.shown[len(opening) :]
            assert not rest or rest == tuple(range(rest[0], rest[-1] + 1))
            assert not rest or steps[rest[0]].role != "tool"
            assert sum(s.trained for s in window.rendered.spans) == len(window.trained)
        # What does not fit alone behind the opening is all that is left out.
        for left in cut.left_out:
            alone = [*steps[: min(left, len(opening))], steps[left]]
            assert len(windows(tokenizer, alone, "[]", 10_000).windows[-1].rendered.input_ids) > limit


def test_real_conversations_are_cut_to_a_small_context(plain, shared_data):
    records = json.loads((shared_data / "tau-bench" / "gpt-4o-airline.json").read_text())[:5]
    cuts = []
    for record in records:
        steps = tuple(
            Step(
                role=m["role"],
                content=m.get("content"),
                tool_calls=tuple(
                    ToolCall(id=c["id"], name=c["function"]["name"], arguments=c["function"]["arguments"])
                    for c in m.get("tool_calls") or ()
                ),
            )
            for m in record["traj"]
        )
        cut = windows(plain, steps, "[]", 12_000)
        cuts.append(len(cut.windows))
        turns = [i for i, s in enumerate(steps) if s.role == "assistant"]
        assert [t for w in cut.windows for t in w.trained] == turns
        assert cut.left_out == ()
    assert max(cuts) > 1


def test_before_its_next_turn_a_model_is_shown_the_opening_and_the_latest_groups(plain):
    steps = (SYSTEM, TASK, *(step for n in range(8) for step in turn(n)))
    shown = recent(plain, steps, "[]", 700)
    assert shown[:2] == [SYSTEM, TASK]
    assert (*shown[2:],) == steps[-len(shown[2:]) :]
    assert shown[2].role == "assistant"
    assert 4 < len(shown) < len(steps)
    # All of it where it fits, and where nothing fits behind the opening: then the caller cuts tokens.
    assert recent(plain, steps, "[]", 10_000) == steps
    assert recent(plain, steps, "[]", 100) == steps

"""What one episode shows of itself."""

import json

import msgspec
import pytest

from flywheel.curate.profile import PROFILE, profile
from flywheel.schema import Step, ToolCall, trajectories_table
from flywheel_tests.outcomes.stored import trajectory


def call(name="look_up", **arguments):
    return Step(role="assistant", tool_calls=(ToolCall(id="c", name=name, arguments=json.dumps(arguments)),))


def observed(text, is_error=False):
    return Step(role="tool", content=text, tool_call_id="c", tool_name="look_up", is_error=is_error)


def of(*steps, **fields):
    (found,) = profile(
        trajectories_table([msgspec.structs.replace(trajectory("a"), steps=steps, **fields)])
    ).to_pylist()
    return found


def marks(*steps, **fields):
    return [mark["kind"] for mark in of(*steps, **fields)["marks"]]


def test_length_tools_and_errors():
    steps = (
        Step(role="system", content="Be kind."),
        Step(role="user", content="Where is  my order?"),
        call(order="7"),
        observed("nothing there", is_error=True),
        call("cancel"),
        call("cancel"),
        Step(role="assistant", reasoning="Hm.", content="It is gone."),
    )
    found = of(*steps, tools='[{"type": "function"}]')
    assert (found["words"], found["calls"], found["errors"]) == (4 + 2 + 4, 3, 1)
    assert (found["tools_called"], found["tools_offered"], found["marks"]) == (["cancel", "look_up"], True, [])


def test_rows_keep_their_order():
    rows = [trajectory(f"t{i}", "word " * (20 - i)) for i in range(20)]
    found = profile(trajectories_table(rows))
    assert found.schema.equals(PROFILE) and found["words"].to_pylist() == list(range(20, 0, -1))


@pytest.mark.parametrize(
    "text",
    [
        "reward = True",
        "'reward': 0.5",
        "Reward is 1.",
        "with reward 0.75",
        "final_reward=1",
        "rewards: [1.0]",
        "checker: passed",
        "The grader says FAIL",
        "Grader output: pass",
        "[judge] correct",
        "judge=1.0",
        "Result: CORRECT",
    ],
)
def test_a_printed_verdict_wherever_it_stands(text):
    assert marks(Step(role="user", content="Hi"), observed(f"done. {text} end")) == ["verdict"]
    assert marks(Step(role="user", content="Hi"), Step(role="assistant", content=f"So, {text} end")) == ["verdict"]


@pytest.mark.parametrize(
    "text",
    [
        "the reward is 1500 points",
        "reward: a voucher",
        "your score: 1",
        "the judge said no more",
        "Identity verification failed",
    ],
)
def test_words_of_other_worlds_are_no_verdict(text):
    assert marks(Step(role="user", content=text), observed(text)) == []


def test_an_answer_counts_in_an_observation_and_not_in_what_a_user_asks():
    assert marks(observed("diff: expected answer: 42")) == ["answer"]
    assert marks(observed("Ground truth = refund")) == ["answer"]
    assert marks(observed("answer key: B")) == ["answer"]
    assert marks(Step(role="user", content="expected answer: 42")) == []
    assert marks(observed("expected output: 42")) == []


ANSWER = "refund the order and tell the customer"


def test_an_answer_of_the_metadata_that_the_agent_read_before_it_said_so():
    kept = json.dumps({"task": {"expected": [ANSWER]}})
    assert marks(Step(role="user", content=f"Hint: {ANSWER}."), metadata=kept) == ["secret"]
    asked, said = Step(role="user", content="Hi"), Step(role="assistant", content=f"I will {ANSWER}.")
    assert marks(asked, said, observed(f"You did {ANSWER}."), metadata=kept) == []
    assert marks(Step(role="user", content=f"Hint: {ANSWER}."), metadata=json.dumps({"note": ANSWER})) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("write_file", {"path": "grader.py", "text": "pass"}),
        ("read_file", {"path": "/srv/expected_output.json"}),
        ("bash", {"command": "cat hidden_tests.py"}),
        ("edit_file", {"path": "tests/test_sum.py"}),
        ("bash", {"command": "rm -r tests/unit"}),
        ("bash", {"command": "git checkout main -- tests/"}),
        ("bash", {"command": "cat ../.answers/task7.json"}),
        ("bash", {"command": "pkill -f grader"}),
        ("bash", {"command": "echo pass > conftest.py"}),
    ],
)
def test_calls_that_touch_a_grader_or_write_to_tests(name, arguments):
    assert marks(call(name, **arguments)) == ["tampering"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read_file", {"path": "tests/test_sum.py"}),
        ("bash", {"command": "python -m pytest tests/unit"}),
        ("write_file", {"path": "mail/config", "text": "test 1"}),
        ("search", {"query": "latest scores"}),
        ("sql", {"query": "SELECT text FROM tests WHERE updated_at < '2020-01-01' AND size > 3"}),
    ],
)
def test_tests_may_be_read_and_run(name, arguments):
    assert marks(call(name, **arguments)) == []

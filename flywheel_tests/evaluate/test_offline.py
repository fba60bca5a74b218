"""Offline evaluation of a tiny policy from scratch on literal captures."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from flywheel.evaluate import causal, offline
from flywheel.schema import FlywheelError, Step, ToolCall, Trajectory, trajectories_table

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"properties": {"id": {"type": "string"}}}}}
    for name in ("look", "cancel")
]


def calls(name: str, arguments: str) -> Step:
    return Step(role="assistant", tool_calls=(ToolCall(id="c", name=name, arguments=arguments),))


def capture(number: int) -> Trajectory:
    """A user wants something cancelled: the agent looks, cancels, and says so."""
    order = f'{{"id": "{number}"}}'
    return Trajectory(
        id=f"t{number}",
        workspace="w",
        task_id=str(number),
        task_group=str(number),
        task_type="desk",
        agent="a",
        tools=msgspec.json.encode(TOOLS).decode(),
        end_state="completed",
        arrived_at=datetime(2026, 11, 9, tzinfo=UTC),
        source="test",
        steps=(
            Step(role="user", content=f"cancel {number}"),
            calls("look", order),
            Step(role="tool", content="open", tool_name="look"),
            calls("cancel", order),
            Step(role="tool", content="done", tool_name="cancel"),
            Step(role="assistant", content=f"cancelled {number}"),
        ),
    )


ROWS = trajectories_table([capture(n) for n in range(4)])


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A policy with random weights, and the same after it has learnt the rows by heart."""
    import torch

    from flywheel.train import policy
    from flywheel.train.config import Size
    from flywheel.train.examples import examples
    from flywheel.train.tokenizer import build

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policies")
    texts = ["cancel 0 1 2 3 cancelled open done"] * 2
    tokenizer = build(TOOLS, texts)
    model = policy.scratch(tokenizer, Size(width=64, layers=2, heads=2, feed_forward=128), 256, seed=0)
    policy.save(model, tokenizer, folder / "random")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = examples(tokenizer, ROWS, 256)
    for _ in range(80):
        for example in batch:
            ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
            model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.save(model, tokenizer, folder / "learnt")
    yield folder / "random", folder / "learnt"
    torch.set_num_threads(threads)


def test_a_policy_that_knows_the_rows_foretells_them(learnt: tuple[Path, Path]):
    random, taught = learnt
    told: list[int] = []
    before = offline.evaluate(random, ROWS)
    after = offline.evaluate(taught, ROWS, progress=told.append)
    assert (after.trajectories, after.positions, after.calls) == (4, 12, 8)
    assert before.tokens == after.tokens
    assert before.nll > 3 > 0.2 > after.nll
    assert (after.action_accuracy, after.tool_accuracy, after.argument_accuracy) == (1.0, 1.0, 1.0)
    assert before.argument_accuracy == 0.0
    assert after.commonest == pytest.approx(1 / 3)
    assert after.by_action == [
        {"action": offline.NOTHING, "positions": 4, "right tool": 4, "right arguments": 0},
        {"action": "cancel", "positions": 4, "right tool": 4, "right arguments": 4},
        {"action": "look", "positions": 4, "right tool": 4, "right arguments": 4},
    ]
    assert told == sorted(told)
    assert told[-1] == 4 + 12


def test_batches_and_windows_do_not_change_what_is_measured(learnt: tuple[Path, Path]):
    _, taught = learnt
    whole = offline.evaluate(taught, ROWS, max_positions=1)
    alone = offline.evaluate(taught, ROWS, batch=1, max_positions=1)
    assert alone.nll == pytest.approx(whole.nll, rel=1e-4)
    # A large vocabulary leaves room for one row's logits at a time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal, "LOGITS", 1)
        assert offline.evaluate(taught, ROWS, max_positions=1).nll == pytest.approx(whole.nll, rel=1e-4)
    # Each token is measured once, however the rows are cut.
    assert offline.evaluate(taught, ROWS, context=24, max_tokens=4, max_positions=1).tokens == whole.tokens


def test_samples_are_the_same_in_every_order_of_rows():
    backwards = ROWS.take([3, 2, 1, 0])
    assert set(offline.sample(ROWS, 2)["id"].to_pylist()) == set(offline.sample(backwards, 2)["id"].to_pylist())
    there, back = offline.positions(ROWS, 5), offline.positions(backwards, 5)
    assert [(p.trajectory_id, p.step_index) for p in there] == [(p.trajectory_id, p.step_index) for p in back]
    assert len(there) == 5


def test_arguments_are_equal_as_json():
    assert offline.action(calls("look", '{"a": 1, "b": [2]}')) == offline.action(calls("look", '{"b":[2],"a":1}'))
    assert offline.action(calls("look", '{"a": 1}')) != offline.action(calls("look", '{"a": "1"}'))
    assert offline.action(calls("look", "{broken")) == (("look", "{broken"),)


def test_what_counts_as_right():
    look, other, cancel = (("look", '{"id":"1"}'),), (("look", '{"id":"2"}'),), (("cancel", '{"id":"1"}'),)
    found = offline.summary([look, look, cancel, ()], [look, other, look, ()], trajectories=1, tokens=10, nll=0.5)
    assert (found.positions, found.action_accuracy, found.commonest) == (4, 0.75, 0.5)
    assert (found.calls, found.tool_accuracy, found.argument_accuracy) == (3, 2 / 3, 1 / 3)
    assert found.action_interval.low < 0.75 < found.action_interval.high
    assert offline.row("p", found)["right arguments"] == 1 / 3


def test_rows_without_an_assistant_are_refused(learnt: tuple[Path, Path]):
    silent = trajectories_table([msgspec.structs.replace(capture(1), steps=(Step(role="user", content="hello"),))])
    with pytest.raises(FlywheelError, match="no assistant's step"):
        offline.evaluate(learnt[0], silent)

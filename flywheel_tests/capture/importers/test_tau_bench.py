"""tau-bench runs as trajectories."""

from typing import Any

from flywheel.capture.importers.records import Bad, Record
from flywheel_tests.capture.importers.conftest import NOW, Read


def call(id: str, order: str) -> dict[str, Any]:
    function = {"name": "cancel", "arguments": f'{{"order":"{order}"}}'}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}


def result(id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "name": "cancel", "content": content}


RUN = {
    "task_id": 7,
    "trial": 2,
    "reward": 0.0,
    "info": {
        "task": {
            "user_id": "u",
            "instruction": "SECRET: you want both orders cancelled",
            "actions": [{"name": "refund", "kwargs": {"order": "GOLD"}}],
            "outputs": ["42"],
        },
        "reward_info": {"reward": 0.0, "info": {"r_actions": 0.0, "gt_data_hash": "GOLDHASH"}, "actions": ["GOLD"]},
    },
    "traj": [
        {"role": "system", "content": "# Retail agent policy\n\nBe kind."},
        {"role": "user", "content": "Cancel both."},
        call("a", "1"),
        result("a", "done"),
        call("a", "2"),
        result("a", "Error: no such order"),
        {"role": "user", "content": "###STOP###"},
    ],
}


def test_a_run_is_a_trajectory_of_its_domain_and_task(read: Read) -> None:
    [record] = read([RUN], "gpt-4o-retail.json")
    assert isinstance(record, Record)
    t = record.trajectory
    assert (t.task_id, t.task_group, t.task_type) == ("tau-bench-retail-7", "tau-bench-retail-7", "tau-bench/retail")
    assert (t.agent, t.model, t.end_state) == ("gpt-4o", "gpt-4o", "completed")
    assert (t.source, t.source_line, t.arrived_at) == ("results/gpt-4o-retail.json", 1, NOW)
    assert [step.role for step in t.steps] == ["system", "user", "assistant", "tool", "assistant", "tool", "user"]
    assert t.steps[2].tool_calls[0].arguments == '{"order":"1"}'


def test_a_call_id_that_repeats_is_made_unique_and_its_result_follows(read: Read) -> None:
    [record] = read([RUN])
    assert isinstance(record, Record)
    steps = record.trajectory.steps
    assert [steps[2].tool_calls[0].id, steps[4].tool_calls[0].id] == ["a", "a#2"]
    assert [(steps[i].tool_call_id, steps[i].tool_name, steps[i].is_error) for i in (3, 5)] == [
        ("a", "cancel", False),
        ("a#2", "cancel", True),
    ]


def test_verdicts_are_outcomes_and_references_are_nowhere(read: Read) -> None:
    [record] = read([RUN])
    assert isinstance(record, Record)
    assert [(o.signal, o.value, o.source, o.observed_at) for o in record.outcomes] == [
        ("reward", 0.0, "tau-bench", NOW),
        ("r_actions", 0.0, "tau-bench", NOW),
    ]
    assert not any(word in repr(record) for word in ("SECRET", "GOLD", "refund", "42"))


def test_a_run_without_a_reward_stays_unlabelled_and_one_without_messages_is_bad(read: Read) -> None:
    unlabelled, empty, no_messages = read(
        [{"task_id": 1, "traj": RUN["traj"]}, RUN | {"traj": []}, {"task_id": 1, "traj": None}]
    )
    assert isinstance(unlabelled, Record)
    assert unlabelled.outcomes == ()
    assert isinstance(empty, Bad)
    assert empty.error == "record 2: the run has no messages"
    assert isinstance(no_messages, Bad)
    assert "`$.traj`" in no_messages.error

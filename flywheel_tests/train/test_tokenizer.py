"""The default tokenizer: what tools and entities cost, that nothing is lost, and what the loss sees."""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.schema import FlywheelError, Step, ToolCall, Trajectory, trajectories_table
from flywheel.train.examples import IGNORED, Example, examples
from flywheel.train.tokenizer import build
from flywheel.views.messages import parse_assistant, to_messages

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "refund",
            "parameters": {
                "type": "object",
                "properties": {"order": {"type": "string"}, "reason": {"type": "string"}, "days": {"type": "integer"}},
            },
        },
    }
]

STEPS = (
    Step(role="system", content="You run the desk."),
    Step(role="user", content="Refund O12, it is late."),
    Step(
        role="assistant",
        tool_calls=(ToolCall(id="a", name="refund", arguments='{"order": "O12", "reason": "late", "days": 3}'),),
    ),
    Step(role="tool", content="refunded", tool_call_id="a", tool_name="refund"),
    Step(role="assistant", content="Done, O12 is refunded."),
)


@cache
def tokenizer() -> Any:
    texts = [step.content or "" for step in STEPS] + ["O12 late 3"]
    return build(TOOLS, texts, min_count=1)


def encode(steps: tuple[Step, ...], context: int = 256) -> list[Example]:
    """The examples of one trajectory."""
    row = Trajectory(
        id="t",
        workspace="w",
        task_id="k",
        task_group="g",
        task_type="desk",
        agent="a",
        tools=json.dumps(TOOLS),
        end_state="completed",
        arrived_at=datetime(2026, 11, 2, tzinfo=UTC),
        source="test",
        steps=steps,
    )
    return examples(tokenizer(), trajectories_table([row]), context)


def pieces(example: Example) -> list[str]:
    return [tokenizer().decode([token]) for token in example.input_ids]


def trained(example: Example) -> list[str]:
    return [tokenizer().decode([label]) for label in example.labels if label != IGNORED]


def test_a_call_is_a_few_tokens():
    assert pieces(encode(STEPS[:3])[0])[-9:] == [
        "\n<|im_start|>assistant\n",
        '<tool_call>\n{"name": "refund", "arguments": {"order": "',
        "O12",
        '", "reason": "',
        "late",
        '", "days": ',
        "3",
        "}}\n</tool_call>",
        "<|im_end|>",
    ]


def test_a_shared_line_of_system_prompts_is_one_token():
    line = "You run the desk. Be kind."
    shared = build(TOOLS, ["You run"], [line])
    assert shared.tokenize(f"{line}\nRun.")[0] == line
    assert shared.decode(shared(f"{line} {line}")["input_ids"]) == f"{line} {line}"


def test_what_is_trained_is_exactly_what_the_assistant_wrote():
    [example] = encode(STEPS)
    assert "".join(trained(example)) == (
        '<tool_call>\n{"name": "refund", "arguments": {"order": "O12", "reason": "late", "days": 3}}\n</tool_call>'
        "<|im_end|>"
        "Done, O12 is refunded.<|im_end|>"
    )


def test_two_assistant_turns_in_a_row_and_reasoning_are_trained_whole():
    steps = (
        Step(role="user", content="Go."),
        Step(role="assistant", content="First.", reasoning="Hm."),
        Step(role="assistant", content="Then.", tool_calls=STEPS[2].tool_calls),
        Step(role="tool", content="refunded"),
        Step(role="tool", content="late"),
        Step(role="assistant", content="Done."),
    )
    written = "".join(trained(encode(steps)[0])).split("<|im_end|>")
    assert [parse_assistant(text) for text in written[:-1]] == [
        Step(role="assistant", content="First.", reasoning="Hm."),
        Step(
            role="assistant",
            content="Then.",
            tool_calls=(ToolCall(id="call_0", name="refund", arguments=STEPS[2].tool_calls[0].arguments),),
        ),
        Step(role="assistant", content="Done."),
    ]


def test_the_prompt_of_a_turn_is_a_prefix_of_the_whole():
    whole = tokenizer().apply_chat_template(to_messages(STEPS), return_dict=True)["input_ids"]
    for end in (2, 4):
        prompt = tokenizer().apply_chat_template(
            to_messages(STEPS[:end]), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert whole[: len(prompt)] == prompt


# Half of the texts are made of the pieces that the vocabulary knows: these are where a boundary could go wrong.
KNOWN = st.sampled_from(["O12", "late", " ", "\n", "<|im_end|>", "\n</tool_response>", '", "reason": "', "<0x41>", "é"])
TEXTS = st.text(st.characters(codec="utf-8")) | st.lists(KNOWN).map("".join)


@given(TEXTS)
def test_any_text_decodes_to_itself(text: str):
    assert tokenizer().decode(tokenizer()(text)["input_ids"], skip_special_tokens=False) == text


def test_saved_and_loaded_again_without_code_of_ours(tmp_path: Any):
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    expected = tokenizer().apply_chat_template(to_messages(STEPS), return_dict=True)["input_ids"]
    assert loaded.apply_chat_template(to_messages(STEPS), return_dict=True)["input_ids"] == expected
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_equal_inputs_equal_tokenizer():
    texts = [f"word{i % 7} and word{i % 5}" for i in range(40)]
    first, second = (build(TOOLS, texts).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_a_long_trajectory_becomes_windows_that_train_each_turn_once():
    talk = (*STEPS, *(step for i in range(9) for step in (Step(role="user", content=f"{i}?"), STEPS[-1])))
    [whole] = encode(talk)
    cut = encode(talk, context=64)
    assert len(cut) > 1
    assert all(len(window.input_ids) == len(window.labels) <= 64 for window in cut)
    assert [text for window in cut for text in trained(window)] == trained(whole)


def test_rows_without_an_assistant_are_told():
    with pytest.raises(FlywheelError, match="nothing to train on"):
        encode(STEPS[:2])

"""Pairs as DPO reads them: a prompt, and two completions that are one assistant's turn each."""

from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import pairs
from flywheel.train.dpo import rendered
from flywheel.train.tokenizer import build
from flywheel_tests.preferences.test_pairs import boxes, star
from flywheel_tests.rollout.toy import Boxes, call, say

TOKENIZER = build(Boxes.tools, ["Done it is open Sorry no"], min_count=1)


def test_a_completion_is_exactly_one_turn():
    row = rendered(TOKENIZER, pairs(boxes(), Gates(decision_share=1.0)))[-1]
    assert row == {
        "prompt": "<|im_start|>system\nYou open boxes.<|im_end|>\n<|im_start|>user\nOpen b1.<|im_end|>\n"
        "<|im_start|>assistant\n",
        "chosen": '<tool_call>\n{"name": "look", "arguments": {"box": "b1"}}\n</tool_call><|im_end|>',
        "rejected": '<tool_call>\n{"name": "push", "arguments": {"box": "b1"}}\n</tool_call><|im_end|>',
    }


def test_the_prompt_s_tokens_begin_the_tokens_of_both():
    for row in rendered(TOKENIZER, pairs(boxes(), Gates(decision_share=1.0))):
        prompt = TOKENIZER(row["prompt"])["input_ids"]
        for side in ("chosen", "rejected"):
            assert TOKENIZER(row["prompt"] + row[side])["input_ids"][: len(prompt)] == prompt


def test_a_pair_stands_as_often_as_its_weight_says():
    tree = star((say("Done."), 2, True), (call("push"), 2, False))
    assert len(rendered(TOKENIZER, pairs([tree], Gates()))) == 2

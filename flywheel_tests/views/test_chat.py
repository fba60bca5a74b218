"""What is masked in, decoded, is what the assistant said, and nothing else."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.schema import FlywheelError, Step, ToolCall
from flywheel.views.chat import HistoryRewritten, render
from flywheel.views.chatml import spans
from flywheel.views.messages import parse_assistant
from flywheel_tests.views.conftest import BARE, MARKED, PLAIN, ROLES, byte_level

STEPS = (
    Step(role="system", content="Help."),
    Step(role="user", content="Where is order 7?"),
    Step(role="assistant", reasoning="Look.", tool_calls=(ToolCall(id="a", name="find", arguments='{"order": 7}'),)),
    Step(role="tool", content="shipped", tool_call_id="a", tool_name="find"),
    Step(role="assistant", content="It is on its way."),
    Step(role="user", content="Thanks"),
)

WROTE = [
    '<think>\nLook.\n</think>\n\n<tool_call>\n{"name": "find", "arguments": {"order": 7}}\n</tool_call><|im_end|>',
    "It is on its way.<|im_end|>",
]


def decoded(tokenizer, rendered, digit=1):
    """The text of each run of tokens that bear a digit."""
    runs, run = [], []
    for token, mask in zip([*rendered.input_ids, None], [*rendered.assistant_mask, None], strict=True):
        if mask == digit:
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    return runs


@pytest.mark.parametrize("template", [PLAIN, MARKED])
def test_the_mask_covers_what_the_assistant_wrote_with_its_end_of_turn(template):
    tokenizer = byte_level(template)
    rendered = render(tokenizer, STEPS)
    assert decoded(tokenizer, rendered) == WROTE
    assert tokenizer.decode(rendered.input_ids) == rendered.text == "".join(s.text for s in rendered.spans)
    assert [(s.role, s.trained) for s in rendered.spans] == [
        ("system+user", False),
        ("assistant", True),
        ("tool", False),
        ("assistant", True),
        ("user", False),
    ]


def test_no_newline_after_the_last_end_of_turn_is_trained(plain):
    rendered = render(plain, STEPS[:5])
    assert rendered.text.endswith("<|im_end|>\n")
    assert decoded(plain, rendered)[-1] == WROTE[-1]


def test_some_turns_alone_can_be_trained(plain, marked):
    for tokenizer in (plain, marked):
        assert decoded(tokenizer, render(tokenizer, STEPS, trained={4})) == WROTE[1:]
        assert decoded(tokenizer, render(tokenizer, STEPS, trained=())) == []


def test_an_end_of_turn_outside_the_generation_block_is_taken_in():
    outside = MARKED.replace("{{ '<|im_end|>' }}{% endgeneration %}", "{% endgeneration %}{{ '<|im_end|>' }}")
    tokenizer = byte_level(outside)
    assert decoded(tokenizer, render(tokenizer, STEPS)) == WROTE


def test_a_template_that_rewrites_history_is_found_out(forgetful):
    assert decoded(forgetful, render(forgetful, STEPS[:5])) == WROTE
    with pytest.raises(HistoryRewritten, match="step 2 otherwise once other steps follow"):
        render(forgetful, STEPS)
    # The turn that comes last is rendered as it was written.
    assert decoded(forgetful, render(forgetful, STEPS[:3]))


def test_a_template_that_leaves_out_what_was_said_is_refused():
    bare = byte_level(BARE)
    with pytest.raises(FlywheelError, match="leaves out the reasoning of step 2"):
        render(bare, STEPS[:3])
    with pytest.raises(FlywheelError, match="leaves out the tool call of step 0"):
        render(bare, [Step(role="assistant", tool_calls=STEPS[2].tool_calls)])


def test_a_template_without_a_generation_prompt_is_refused():
    silent = byte_level(PLAIN.split("{% if add_generation_prompt %}")[0])
    with pytest.raises(FlywheelError, match="has no generation prompt"):
        render(silent, STEPS)


def test_a_template_that_refuses_the_conversation_says_so():
    strict = byte_level("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(FlywheelError, match="refuses this conversation: roles must alternate"):
        render(strict, STEPS)
    with pytest.raises(FlywheelError, match="no chat template"):
        render(byte_level(None), STEPS)


def test_a_template_that_joins_arguments_as_text_gets_text():
    tokenizer = byte_level(
        PLAIN.replace("c.function.arguments if c.function.arguments is string else ", "").replace(
            "c.function.arguments | tojson", "c.function.arguments"
        )
    )
    assert decoded(tokenizer, render(tokenizer, STEPS)) == WROTE


def test_a_conversation_that_the_assistant_opens(plain, marked):
    steps = [Step(role="assistant", content="Hi!"), Step(role="user", content="Hello"), *STEPS[4:5]]
    for tokenizer in (plain, marked):
        assert decoded(tokenizer, render(tokenizer, steps)) == ["Hi!<|im_end|>", WROTE[1]]


def test_without_control_tokens_the_newline_ends_the_turn():
    tokenizer = byte_level(ROLES)
    rendered = render(tokenizer, [Step(role="user", content="Hi"), Step(role="assistant", content="Hello")])
    assert decoded(tokenizer, rendered) == ["Hello\n"]


def test_a_token_never_spans_the_prompt_and_the_turn():
    newlines = byte_level(PLAIN, merges=[("Ċ", "Ċ")])
    rendered = render(newlines, [Step(role="user", content="Hi"), Step(role="assistant", content="\nHello")])
    assert decoded(newlines, rendered) == ["\nHello<|im_end|>"]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<|"), min_size=1, max_size=12).filter(
    str.strip
)
VALUE = st.one_of(TEXT, st.integers(-99, 99), st.booleans(), st.none())
CALL = st.builds(
    lambda name, arguments: ToolCall(id="x", name=name, arguments=json.dumps(arguments, ensure_ascii=False)),
    TEXT,
    st.dictionaries(TEXT, VALUE, max_size=2),
)
ASSISTANT = st.builds(
    lambda reasoning, content, calls: Step(
        role="assistant", reasoning=reasoning, content=content, tool_calls=tuple(calls)
    ),
    st.none() | TEXT.map(str.strip),
    st.none() | TEXT.map(str.strip),
    st.lists(CALL, max_size=2),
)
OTHER = st.builds(lambda role, content: Step(role=role, content=content), st.sampled_from(["user", "tool"]), TEXT)
CONVERSATION = st.lists(OTHER | ASSISTANT, min_size=1, max_size=6).map(
    lambda steps: (Step(role="system", content="Help."), Step(role="user", content="Go."), *steps)
)


def said(step: Step) -> tuple:
    """What a step says, whatever its ids and the spaces in its JSON."""
    calls = [(call.name, json.loads(call.arguments)) for call in step.tool_calls]
    return (step.reasoning, step.content, calls)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=CONVERSATION)
def test_masked_in_is_exactly_what_the_assistant_said(plain, marked, steps):
    turns = [step for step in steps if step.role == "assistant"]
    for tokenizer in (plain, marked):
        rendered = render(tokenizer, steps)
        # Turns that follow each other still have a header between them.
        wrote = decoded(tokenizer, rendered)
        assert all(text.endswith("<|im_end|>") for text in wrote)
        assert [said(parse_assistant(text.removesuffix("<|im_end|>"))) for text in wrote] == [said(t) for t in turns]
        assert "".join(span.text for span in rendered.spans) == rendered.text
        at = 0
        for step in steps:
            at = rendered.text.index(step.content or "", at) + len(step.content or "")
    assert render(plain, steps).assistant_mask == render(marked, steps).assistant_mask


@settings(max_examples=60, deadline=None)
@given(steps=CONVERSATION)
def test_plain_chatml_needs_no_tokenizer_and_says_the_same(steps):
    cut = spans(steps, '[{"type": "function", "function": {"name": "find"}}]')
    trained = [span.text.removesuffix("<|im_end|>") for span in cut if span.trained]
    turns = [step for step in steps if step.role == "assistant"]
    assert [said(parse_assistant(text)) for text in trained] == [said(t) for t in turns]
    text = "".join(span.text for span in cut)
    assert text.endswith("<|im_end|>") and '"name": "find"' in text
    assert text.count("<|im_start|>") == text.count("<|im_end|>")
    at = text.index("Help.")
    for step in steps:
        at = text.index(step.content or "", at) + len(step.content or "")

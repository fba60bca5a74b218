"""Tokenizers made in memory, and chat templates as models ship them."""

from typing import Any

import pytest

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_ASSISTANT = (
    "{% if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content }}"
    "{% for c in m.tool_calls or [] %}"
    "{{ ('\\n' if m.content or not loop.first else '') + '<tool_call>\\n{\"name\": ' + (c.function.name | tojson) "
    "+ ', \"arguments\": ' + (c.function.arguments if c.function.arguments is string else "
    "c.function.arguments | tojson) + '}\\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>' }}"
)
_REST = (
    "{% elif m.role == 'tool' %}{{ '<|im_start|>tool\\n<tool_response>\\n' + m.content + "
    "'\\n</tool_response><|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_HEAD = "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"

PLAIN = _HEAD + _ASSISTANT + "{{ '\\n' }}" + _REST
MARKED = _HEAD + "{% generation %}" + _ASSISTANT + "{% endgeneration %}{{ '\\n' }}" + _REST
# As Qwen3's: what was thought before the last user spoke is no longer shown.
FORGETFUL = PLAIN.replace(
    "{% for m in messages %}",
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}",
    1,
).replace("{% if m.reasoning_content %}", "{% if m.reasoning_content and loop.index0 > ns.last %}")
# No thinking, no tool calls.
BARE = _HEAD + "{{ m.content + '<|im_end|>\\n' }}" + _REST
# Roles by name, and no control tokens at all.
ROLES = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def byte_level(template: str | None, *, merges: list[tuple[str, str]] | None = None) -> Any:
    """A tokenizer of single bytes (and some merges) with ChatML control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = merges or []
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )


@pytest.fixture(scope="session")
def plain() -> Any:
    """A template without generation blocks."""
    return byte_level(PLAIN)


@pytest.fixture(scope="session")
def marked() -> Any:
    """The same with generation blocks."""
    return byte_level(MARKED)


@pytest.fixture(scope="session")
def forgetful() -> Any:
    """A template that drops earlier reasoning."""
    return byte_level(FORGETFUL)

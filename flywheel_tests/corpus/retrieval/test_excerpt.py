"""Excerpts: where an episode says most of what was searched for."""

from flywheel.corpus.retrieval.excerpt import WIDTH, excerpt


def said(role, content=None, reasoning=None, calls=()):
    calls = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return {"role": role, "content": content, "reasoning": reasoning, "tool_calls": calls}


def test_the_heaviest_words_together_are_shown_and_marked():
    long = "Nothing of it. " * 40 + "Please refund my order, the refund is due. " + "More of nothing. " * 40
    steps = [said("system", "refund order"), said("user", "An order?"), said("assistant", long)]
    found = excerpt(steps, {"refund": 1.0, "order": 1.0, "my": 0.1})
    assert "Please **refund** my **order**, the **refund** is due." in found
    assert found.startswith("… ") and found.endswith(" …")
    assert len(found) < WIDTH + 40


def test_calls_and_reasoning_are_looked_at():
    steps = [said("user", "Hi"), said("assistant", reasoning="look it up", calls=[("look_up", '{"order": "W17"}')])]
    assert excerpt(steps, {"w17": 1.0}) == 'look_up {"order": "**W17**"}'
    assert excerpt(steps, {"it": 1.0}) == "look **it** up"


def test_without_any_of_the_words_it_is_what_was_asked():
    assert excerpt([said("assistant", "Hello."), said("user", "Help\nme")], {"refund": 1.0}) == "Help me"
    assert excerpt([said("assistant", "Hello.")], {"refund": 1.0}) == "Hello."
    assert excerpt([], {"refund": 1.0}) == ""


def test_a_text_without_spaces_is_cut_all_the_same():
    found = excerpt([said("tool", "x" * 5000 + " refund " + "y" * 5000)], {"refund": 1.0})
    assert "**refund**" in found and len(found) < WIDTH + 40

"""Texts of trajectories, and pairs of texts that are nearly the same."""

import random

import msgspec
import pyarrow as pa
import pytest

from flywheel.curate import minhash
from flywheel.curate.fingerprint import derivation, runs, similar, texts
from flywheel.curate.spec import NearDuplicates
from flywheel.curate.words import text_words
from flywheel.schema import Step, ToolCall, trajectories_table
from flywheel_tests.outcomes.stored import trajectory

WORDS = [f"word{i}" for i in range(100)]


def documents(*texts: str, scope: str = "") -> pa.Table:
    return pa.table({"key": [str(i) for i in range(len(texts))], "scope": [scope] * len(texts), "text": list(texts)})


def pairs(left: pa.Table, right: pa.Table | None = None, **settings):
    found = similar(left, right, NearDuplicates(**settings)).to_pylist()
    return [(pair["left"], pair["right"], round(pair["similarity"], 3)) for pair in found]


def test_the_text_is_what_was_asked_said_and_done_without_the_system():
    steps = (
        Step(role="system", content="You are the desk."),
        Step(role="user", content="Where is O12?"),
        Step(role="assistant", reasoning="Look.", tool_calls=(ToolCall(id="1", name="find", arguments='{"o": 12}'),)),
        Step(role="tool", content="lost"),
        Step(role="user", content="Well?"),
    )
    table = trajectories_table([msgspec.structs.replace(trajectory("a"), steps=steps), trajectory("b", "")])
    assert texts(table).to_pylist() == [
        {"id": "a", "prompt": "Where is O12?", "text": 'Where is O12? Look. find {"o": 12} lost Well?'},
        {"id": "b", "prompt": "", "text": ""},
    ]


def test_fingerprints_are_those_of_the_text():
    table = trajectories_table([trajectory("a", "Where is O12?"), trajectory("b", "")])
    words = text_words(texts(table)["text"])
    near = NearDuplicates(shingle=2, bands=3, rows=2)
    made = derivation(near)
    assert made.compute(table.select(made.columns)) == minhash.fingerprints(words, near)
    assert made.compute(table.select(made.columns))["n_runs"].to_pylist() == [
        len(r) for r in runs(table["steps"], near)
    ]
    assert made.compute(table.slice(0, 0)).num_rows == 0


def test_another_threshold_needs_no_other_fingerprints():
    near = NearDuplicates(bands=3, rows=2)
    assert derivation(near).table == derivation(msgspec.structs.replace(near, threshold=0.5, within="task")).table
    others = [{"shingle": 4}, {"bands": 4}, {"rows": 3}, {"seed": 2}]
    assert len({derivation(msgspec.structs.replace(near, **other)).table for other in [{}, *others]}) == 5


def test_one_word_of_a_hundred_costs_its_runs():
    text = " ".join(WORDS)
    changed = text.replace("word50", "other")
    assert pairs(documents(text, changed)) == [("0", "1", round(91 / 101, 3))]
    assert pairs(documents(text, changed), threshold=0.95) == []


def test_case_and_punctuation_are_no_difference():
    assert pairs(documents("Refund O12, please!", "refund o12 PLEASE")) == [("0", "1", 1.0)]
    assert pairs(documents("Où est l'été?", "où est l été")) == [("0", "1", 1.0)]


def test_one_template_about_other_things_is_not_the_same():
    ask = "I would like to have my money back for order {} which {} bought last week, please."
    said = "refund_order {} granted Done, {} is refunded."
    texts = [(ask + said).format(order, who, order, order) for order, who in (("O12", "Ann"), ("O37", "Bob"))]
    assert pairs(documents(*texts)) == []


def test_texts_of_another_scope_or_without_words_are_not_compared():
    one, other = documents("a b c d e", "", "..."), documents("a b c d e", scope="elsewhere")
    assert pairs(one) == []
    assert pairs(one, other) == []
    assert pairs(one, documents("a b c d e")) == [("0", "0", 1.0)]
    assert pairs(documents()) == []


@pytest.mark.parametrize("threshold", [0.9, 0.95])
def test_nearly_all_pairs_are_found_and_none_that_is_less_alike(threshold):
    rng = random.Random(7)
    texts = []
    for _ in range(150):
        words = rng.choices(WORDS, k=120)
        texts.append(" ".join(words))
        for place in rng.sample(range(120), rng.randrange(3)):
            words[place] = "changed"
        texts.append(" ".join(words))
    runs = [{tuple(t.split()[i : i + 5]) for i in range(116)} for t in texts]
    truth = {
        (str(a), str(b))
        for a in range(len(texts))
        for b in range(a + 1, len(texts))
        if len(runs[a] & runs[b]) / len(runs[a] | runs[b]) >= threshold
    }
    found = {tuple(sorted(pair[:2], key=int)) for pair in pairs(documents(*texts), threshold=threshold)}
    assert found <= truth
    assert len(found) >= 0.95 * len(truth) > 30


def test_a_long_text_costs_its_length_and_no_more():
    long = " ".join(f"word{i}" for i in range(50_000))
    assert pairs(documents(long, f"{long} end")) == [("0", "1", 1.0)]

"""Fingerprints of trajectories."""

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import minhash
from flywheel.curate.fingerprint import EPISODE, PROMPT, derivation, runs
from flywheel.curate.spec import NearDuplicates
from flywheel.curate.words import text_words
from flywheel.schema import Step, ToolCall, trajectories_table
from flywheel_tests.outcomes.stored import trajectory


def similarity(one: str, other: str, shingle: int = 5) -> float:
    """Of two texts, by the runs that their trajectories' fingerprints are made of."""
    table = trajectories_table([trajectory("a", one), trajectory("b", other)])
    left, right = (set(own) for own in runs(table["steps"], NearDuplicates(shingle=shingle)).to_pylist())
    return len(left & right) / len(left | right)


def test_the_text_is_what_was_asked_said_and_done_without_the_system():
    steps = (
        Step(role="system", content="You are the desk."),
        Step(role="user", content="Where is O12?"),
        Step(role="assistant", reasoning="Look.", tool_calls=(ToolCall(id="1", name="find", arguments='{"o": 12}'),)),
        Step(role="tool", content="lost"),
        Step(role="user", content="Well?"),
    )
    table = trajectories_table([msgspec.structs.replace(trajectory("a"), steps=steps), trajectory("b", "")])
    with warehouse.connect() as connection:
        connection.register("given", table.select(["id", "steps"]))
        assert connection.sql(f"SELECT {PROMPT}, {EPISODE} FROM given ORDER BY id").fetchall() == [
            ("Where is O12?", 'Where is O12? Look. find {"o": 12} lost Well?'),
            ("", ""),
        ]


def test_fingerprints_are_those_of_the_text():
    table = trajectories_table([trajectory("a", "Where is O12?"), trajectory("b", "")])
    near = NearDuplicates(shingle=2, bands=3, rows=2)
    made = derivation(near)
    prints = made.compute(table.select(made.columns))
    assert prints == minhash.fingerprints(text_words(pa.array(["Where is O12?", ""])), near)
    assert prints["n_runs"].to_pylist() == [len(own) for own in runs(table["steps"], near)] == [2, 0]
    assert made.compute(table.slice(0, 0)).num_rows == 0


def test_another_threshold_needs_no_other_fingerprints():
    near = NearDuplicates(bands=3, rows=2)
    assert derivation(near).table == derivation(msgspec.structs.replace(near, threshold=0.5, within="task")).table
    others = [{"shingle": 4}, {"bands": 4}, {"rows": 3}, {"seed": 2}]
    assert len({derivation(msgspec.structs.replace(near, **other)).table for other in [{}, *others]}) == 5


def test_one_word_of_a_hundred_costs_its_runs():
    text = " ".join(f"word{i}" for i in range(100))
    assert similarity(text, text.replace("word50", "other")) == 91 / 101


def test_one_template_about_other_things_is_not_the_same():
    text = (
        "I would like to have my money back for order {} which {} bought last week, please."
        "refund_order {} granted Done, {} is refunded."
    )
    one, other = (text.format(order, who, order, order) for order, who in (("O12", "Ann"), ("O37", "Bob")))
    assert similarity(one, other) < 0.5
    assert similarity("Refund O12, please!", "refund o12 PLEASE") == 1

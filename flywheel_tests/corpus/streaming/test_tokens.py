"""Conversations are tokenised once, by content; what trains is what the assistant said, and nothing else."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.corpus.streaming import kept, renderings, segments, sequences, texts, tokens
from flywheel.corpus.streaming.batches import Batches
from flywheel.corpus.streaming.sequences import Sequences
from flywheel.corpus.streaming.texts import Texts
from flywheel.schema import FlywheelError, Step, ToolCall, Trajectory, trajectories_table
from flywheel.views.messages import parse_assistant
from flywheel.views.window import windows
from flywheel_tests.corpus.conftest import MONDAY, trajectory
from flywheel_tests.views.conftest import BARE, FORGETFUL, MARKED, PLAIN, byte_level
from flywheel_tests.views.test_chat import CONVERSATION, STEPS, said

PLAINLY, MARKEDLY, FORGETFULLY = byte_level(PLAIN), byte_level(MARKED), byte_level(FORGETFUL)


def conversation(steps, number=0):
    """One trajectory of some steps."""
    return Trajectory(
        id=f"c{number}", workspace="w", task_id="t", task_group="g", task_type="x", agent="a", end_state="completed",
        arrived_at=MONDAY, source="test", steps=tuple(steps),
    )  # fmt: skip


def conversations(*trajectories):
    """What is rendered, and what it is known by."""
    table = trajectories_table(list(trajectories))
    return table.select(["id", "content_digest", "steps", "tools"]).rename_columns({"id": "trajectory_id"})


def bring(folder, tokenizer, table, max_tokens=4000, **options):
    """Tokenise a table into a folder, and open it; with how many were new."""
    rendering = renderings.of_tokens(tokenizer, max_tokens)

    def read(todo):
        rows = table.take([table["trajectory_id"].to_pylist().index(id) for id in todo["trajectory_id"].to_pylist()])
        for start in range(0, len(rows), 16):
            yield rows.slice(start, 16)

    made = renderings.bring(folder, rendering, table.select(kept.KEYS.names), read, **options)
    return made, found(folder, table)


def found(folder, table):
    files = segments.files(folder)
    return files, sequences.find(files, table)


def in_memory(tmp_path_factory, tokenizer, table, max_tokens, train_on="assistant"):
    """Sequences of a table in a folder of their own."""
    folder = tmp_path_factory.mktemp("tokens")
    distinct = {digest: row for row, digest in enumerate(table["content_digest"].to_pylist())}
    segments.write(folder, tokens.tokenised(tokenizer, max_tokens, table.take(list(distinct.values()))))
    files, held = found(folder, table)
    return Sequences("test", files, held, train_on=train_on)


def runs(tokenizer, labels):
    """The text of each run of labels that count."""
    groups, run = [], []
    for label in [*labels, sequences.IGNORED]:
        if label != sequences.IGNORED:
            run.append(label)
        elif run:
            groups.append(tokenizer.decode(run))
            run = []
    return groups


@pytest.mark.parametrize("tokenizer", [PLAINLY, MARKEDLY], ids=["plain", "marked"])
def test_a_row_as_tokens(tokenizer, tmp_path_factory):
    rows = conversations(conversation(STEPS))

    def trained(train_on):
        held = in_memory(tmp_path_factory, tokenizer, rows, 4000, train_on)
        return runs(tokenizer, held.padded(np.array([0]))["labels"][0])

    call = (
        '<think>\nLook.\n</think>\n\n<tool_call>\n{"name": "find", "arguments": {"order": 7}}\n</tool_call><|im_end|>'
    )
    answer = "It is on its way.<|im_end|>"
    assert trained("assistant") == [call, answer]
    assert trained("answers") == [answer]
    assert trained("calls") == [call]
    with pytest.raises(FlywheelError, match="nothing to train on called 'tools'"):
        trained("tools")


def test_the_rules_of_views_are_part_of_the_recipe():
    # Whoever changes how conversations are rendered, marked or cut must change `tokens.RULES`, or caches go stale.
    rows = conversations(conversation(STEPS), *(trajectory(n) for n in range(3)))
    made = [tokens.tokenised(of, limit, rows) for of in (PLAINLY, MARKEDLY, FORGETFULLY) for limit in (150, 4000)]
    digest = hashlib.sha256(json.dumps([table.to_pylist() for table in made]).encode()).hexdigest()
    assert (tokens.RULES, digest[:16]) == (1, "76c2c4a5995c3f0e")
    text = texts.rendered(rows)["text"][0].as_py().rstrip("\0")
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "54f0ec62e22f3348"


def test_the_recipe_is_what_decides_which_tokens_come_out():
    def key(tokenizer, max_tokens=100):
        return tokens.recipe(tokenizer, max_tokens)

    padded = byte_level(PLAIN)
    padded(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert key(PLAINLY) == key(byte_level(PLAIN)) == key(padded)
    assert len({key(PLAINLY), key(MARKEDLY), key(byte_level(PLAIN, merges=[("a", "b")])), key(PLAINLY, 200)}) == 4


def test_equal_content_is_tokenised_once(tmp_path):
    rows = conversations(*(trajectory(n) for n in range(40)))
    again = rows.set_column(0, "trajectory_id", pa.array([f"other{n}" for n in range(40)]))
    assert bring(tmp_path, PLAINLY, rows.slice(0, 30))[0] == 30
    before = segments.files(tmp_path)
    made, (files, held) = bring(tmp_path, PLAINLY, pa.concat_tables([rows, again]))
    assert (made, len(files), held.num_rows) == (10, 2, 80)
    assert set(before) < set(files)
    assert bring(tmp_path, PLAINLY, rows.slice(5, 20))[0] == 0
    # What two rows share is the same tokens.
    pair = [row for row in held.to_pylist() if row["content_digest"] == rows["content_digest"][3].as_py()]
    assert [row["trajectory_id"] for row in pair] == ["other3", "t003"]
    assert pair[0]["start"] == pair[1]["start"]


def test_what_cannot_be_rendered_is_told_and_not_tried_again(tmp_path):
    long = Step(role="assistant", content="x" * 500)
    rows = conversations(
        *(trajectory(n) for n in range(3)),
        conversation([Step(role="user", content="Hello?")], 1),
        conversation([Step(role="user", content="Go on."), long], 2),
        conversation([Step(role="user", content="Go on."), Step(role="assistant", content="Yes."), long], 3),
    )
    made, (_, held) = bring(tmp_path / "plain", PLAINLY, rows, 300)
    assert made == 6 and bring(tmp_path / "plain", PLAINLY, rows, 300)[0] == 0
    reasons = {row["trajectory_id"]: row["dropped"] for row in held.to_pylist() if row["dropped"]}
    assert reasons == {"c1": "no assistant's step", "c2": "no assistant's step fits in 300 tokens"}
    assert {r["trajectory_id"]: r["left_out"] for r in held.to_pylist() if r["left_out"]} == {"c2": 1, "c3": 1}
    assert len(set(held["trajectory_id"].to_pylist())) == 6
    _, (files, held) = bring(tmp_path / "bare", byte_level(BARE), rows)
    assert sum("leaves out the reasoning" in (reason or "") for reason in held["dropped"].to_pylist()) == 3
    assert set(Sequences("bare", files, held).keys["trajectory_id"].to_pylist()) == {"c2", "c3"}


def test_two_turns_that_meet_are_trained_but_not_told_apart(tmp_path_factory):
    # A template that puts nothing between the assistant's turns.
    joined = byte_level(
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endgeneration %}"
        "{% else %}{{ m.role + ': ' + m.content + '\\n' }}{% endif %}{% endfor %}"
    )
    steps = [
        Step(role="user", content="Go"),
        Step(role="assistant", content="Well, "),
        Step(role="assistant", content="so: ", tool_calls=(ToolCall(id="a", name="find", arguments="{}"),)),
    ]
    rows = conversations(conversation(steps))
    held = in_memory(tmp_path_factory, joined, rows, 100)
    assert runs(joined, held.padded(np.array([0]))["labels"][0]) == ["Well, so: find"]
    assert len(in_memory(tmp_path_factory, joined, rows, 100, "calls")) == 0


def test_the_first_token_has_nothing_to_be_foretold_from(tmp_path_factory):
    opener = byte_level("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}")
    rows = conversations(conversation([Step(role="assistant", content="Hello")]))
    batch = in_memory(tmp_path_factory, opener, rows, 100).padded(np.array([0]))
    assert opener.decode(batch["input_ids"][0]) == "Hello"
    assert runs(opener, batch["labels"][0]) == ["ello"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given=st.lists(CONVERSATION, min_size=1, max_size=5),
    limit=st.integers(60, 600),
    room=st.integers(0, 900),
    batch=st.integers(1, 4),
    ranks=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_what_trains_is_what_assistants_said_once(tmp_path_factory, given, limit, room, batch, ranks, seed):
    rows = conversations(*(conversation(steps, n) for n, steps in enumerate(given)))
    for tokenizer in (PLAINLY, MARKEDLY, FORGETFULLY):
        held = in_memory(tmp_path_factory, tokenizer, rows, limit)
        spoken = [
            said(steps[turn])
            for steps in given
            for window in windows(tokenizer, steps, "[]", limit).windows
            for turn in window.trained
        ]
        for pack in (None, limit + room):
            heard = []
            for rank in range(ranks):
                steps = Batches(held, batch=batch, pack=pack, seed=seed, rank=rank, ranks=ranks)
                for step in range(len(steps)):
                    heard += texts_trained(tokenizer, steps.step(step))
                assert steps.step(len(steps)) is None
            assert all(text.endswith("<|im_end|>") for text in heard)
            told = [said(parse_assistant(text.removesuffix("<|im_end|>"))) for text in heard]
            assert sorted(map(repr, told)) == sorted(map(repr, spoken))
        kinds = [in_memory(tmp_path_factory, tokenizer, rows, limit, kind) for kind in ("answers", "calls")]
        assert sum(int(of.trained.sum()) for of in kinds) == int(held.trained.sum())


def texts_trained(tokenizer, batch):
    """The texts that a batch trains, each window by itself; and that its other arrays fit it."""
    ids, labels = batch["input_ids"], batch["labels"]
    assert ((labels == ids) | (labels == sequences.IGNORED)).all()
    if "attention_mask" in batch:
        assert (ids[batch["attention_mask"] == 0] == 0).all()
        assert (labels[batch["attention_mask"] == 0] == sequences.IGNORED).all()
        return [text for row in labels for text in runs(tokenizer, row)]
    heard = []
    edges = batch["cu_seq_lens_q"].tolist()
    for number, (start, end) in enumerate(pairwise(edges)):
        assert batch["position_ids"][0, start:end].tolist() == list(range(end - start))
        assert set(batch["seq_idx"][0, start:end].tolist()) == {number}
        assert labels[0, start] == sequences.IGNORED
        heard += runs(tokenizer, labels[0, start:end])
    assert edges[-1] == ids.shape[1] and batch["max_length_q"] == max(np.diff(edges))
    return heard


def test_a_damaged_segment_is_named(tmp_path):
    rows = conversations(*(trajectory(n) for n in range(3)))
    _, (files, held) = bring(tmp_path, PLAINLY, rows)
    files[0].write_bytes(files[0].read_bytes()[:500])
    with pytest.raises(FlywheelError, match=f"segment .*{files[0].name} is damaged"):
        Sequences("test", files, held).padded(np.array([0]))
    files[0].unlink()
    with pytest.raises(FlywheelError, match="has been removed meanwhile"):
        Sequences("test", files, held).padded(np.array([0]))
    assert bring(tmp_path, PLAINLY, rows)[0] == 3


def test_erased_conversations_are_in_no_segment(tmp_path):
    rows = conversations(*(trajectory(n) for n in range(6)))
    bring(tmp_path, PLAINLY, rows.slice(0, 3))
    bring(tmp_path, PLAINLY, rows)
    gone = rows["content_digest"].take([1, 2]).to_pylist()
    assert segments.erase(tmp_path, gone) == 2
    files, held = found(tmp_path, rows)
    assert held["trajectory_id"].to_pylist() == ["t000", "t003", "t004", "t005"]
    trained = [runs(PLAINLY, Sequences("test", files, held).padded(np.array([n]))["labels"][0])[-1] for n in range(4)]
    assert [text.removesuffix(" is done.<|im_end|>")[-1] for text in trained] == ["0", "3", "4", "5"]
    assert not any(b"address 1" in path.read_bytes() for path in files)
    assert segments.erase(tmp_path, gone) == 0


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[3, 1], [0, 2]]])
def test_texts_need_no_tokenizer(tmp_path, parts):
    rows = conversations(*(trajectory(n) for n in range(4)))
    for some in parts:
        segments.write(tmp_path, texts.rendered(rows.take(some)))
    files = segments.files(tmp_path)
    held = Texts("texts", files, texts.find(files, rows))
    first, second = held.batch(np.array([2, 0]))["text"]
    assert first.endswith("Your invoice 2 is done.<|im_end|>") and second.endswith("Your refund 0 is done.<|im_end|>")
    assert held.batch(np.array([2]), trained=False) == {"text": []}
    with pytest.raises(FlywheelError, match="give a tokenizer"):
        held.batch(np.array([2]), packed=True)


def slowly(folder, rows):
    """Tokenise, a segment for each few rows."""
    renderings.SEGMENT_BYTES = 1
    bring(folder, PLAINLY, rows, progress=lambda *_: time.sleep(0.05))


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_segments_and_the_next_goes_on(tmp_path):
    rows = conversations(*(trajectory(n) for n in range(800)))
    writer = multiprocessing.get_context("spawn").Process(target=slowly, args=(tmp_path, rows))
    writer.start()
    while not segments.files(tmp_path):
        time.sleep(0.01)
    threading.Timer(0.3, os.kill, (writer.pid, signal.SIGKILL)).start()
    # It waits for the other to end, and does what is left, in processes of its own.
    made, (files, held) = bring(tmp_path, PLAINLY, rows, processes=2)
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert 0 < made < 800
    assert held["trajectory_id"].to_pylist() == rows["trajectory_id"].to_pylist()
    alone = tokens.tokenised(PLAINLY, 4000, rows)
    assert Sequences("test", files, held).lengths.tolist() == alone["n_tokens"].to_pylist()


@settings(deadline=None)
@given(
    said=st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=30),
    cut=st.integers(1, 30),
    seed=st.none() | st.integers(0, 5),
    batch=st.integers(1, 40),
    wanted=st.data(),
)
def test_texts_come_as_they_were_in_any_order_and_from_any_segments(tmp_path_factory, said, cut, seed, batch, wanted):
    folder = tmp_path_factory.mktemp("texts")
    said = [f"<|im_start|>user\n{text}" for text in said]
    names = [f"{n:03}" for n in range(len(said))]
    for start in range(0, len(said), cut):
        part = slice(start, start + cut)
        segments.write(folder, texts.segment(names[part], [text.encode() for text in said[part]]))
    files = segments.files(folder)
    held = Texts("texts", files, texts.find(files, pa.table({"trajectory_id": names, "content_digest": names})))
    some = wanted.draw(st.lists(st.integers(0, len(said) - 1)))
    assert held.batch(np.array(some, np.int64))["text"] == [said[n] for n in some]
    batches = Batches(held, batch=batch, seed=seed)
    given = [text for step in range(len(batches)) for text in (batches.step(step) or {})["text"]]
    assert given == [said[n] for n in batches.order.between(0, len(said)).tolist()]

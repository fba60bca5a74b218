"""A stream gives each row of a split once, in an order that seed and epoch alone decide."""

import numpy as np
import pytest

from flywheel.corpus import store
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.streaming.stream import steps_of, stream, texts_of, tokens_of
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write
from flywheel_tests.views.conftest import PLAIN, byte_level


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A hundred episodes, most of them on the training side."""
    from flywheel.settings import Home

    home = Home(tmp_path_factory.mktemp("corpus"))
    write(home, [trajectory(n) for n in range(100)], [verdict(n, 1.0) for n in range(100)])
    snapshot(home, "support", SPEC, MONDAY)
    return home


def at(*positions):
    return np.array(positions)


def ids(rows):
    return [row["id"] for row in rows]


def test_each_row_of_the_split_comes_once(corpus):
    for split in ("train", "heldout"):
        streamed = ids(stream(corpus, "support", split=split, block=7, window=3))
        stored = store.rows(corpus, "support", 1, split)["id"].to_pylist()
        assert sorted(streamed) == stored
        assert streamed != stored
        assert ids(stream(corpus, "support", split=split, seed=None, block=7)) == stored


def test_rows_are_whole(corpus):
    for row in stream(corpus, "support", block=7):
        assert steps_of(row) == trajectory(int(row["id"][1:])).steps
        assert (row["reward"], row["split"]) == (1.0, "train")


def test_a_condition_picks_rows(corpus):
    some = ids(stream(corpus, "support", where="task_id IN ('task-1', 'task-2', 'task-3', 'task-4')"))
    assert 0 < len(some) <= 4
    assert set(some) <= {"t001", "t002", "t003", "t004"}
    with pytest.raises(FlywheelError, match="no_such_column"):
        next(stream(corpus, "support", where="no_such_column = 1"))


def test_seed_and_epoch_decide_the_order(corpus):
    def order(**options):
        return ids(stream(corpus, "support", columns=["id"], block=7, window=3, **options))

    assert order(seed=1) == order(seed=1) == order(seed=1, epoch=0)
    assert len({tuple(order(seed=seed, epoch=epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_workers_share_one_order(corpus, workers):
    shares = [ids(stream(corpus, "support", block=7, worker=w, workers=workers)) for w in range(workers)]
    alone = ids(stream(corpus, "support", block=7))
    assert [shares[i % workers][i // workers] for i in range(len(alone))] == alone


def test_a_share_that_does_not_exist_is_refused(corpus):
    with pytest.raises(FlywheelError, match="worker 2 of 2"):
        stream(corpus, "support", worker=2, workers=2)


def test_tokens_and_texts_of_a_version(corpus):
    of = manifest(corpus, "support")
    tokenizer = byte_level(PLAIN)
    sequences, told = tokens_of(corpus, of, tokenizer, 4000)
    stored = store.rows(corpus, "support", 1, "train")["id"].to_pylist()
    assert sequences.keys["trajectory_id"].to_pylist() == stored
    assert (told.rows, told.windows, told.cached, told.left_out, told.dropped) == (len(stored), len(stored), 0, 0, {})
    for position, id in enumerate(stored):
        batch = sequences.padded(at(position))
        wrote = tokenizer.decode([t for t in batch["labels"][0] if t >= 0])
        assert wrote.startswith("<think>\nLook first.\n</think>")
        assert wrote.endswith(f"{int(id[1:])} is done.<|im_end|>")
    texts = texts_of(corpus, of)
    assert texts.keys["trajectory_id"].to_pylist() == stored
    for id, text in zip(stored, texts.batch(at(*range(len(texts))))["text"], strict=True):
        assert text.startswith("<|im_start|>system\nYou help.") and text.endswith(f"{int(id[1:])} is done.<|im_end|>")
    # Of a part of it, nothing is tokenised again.
    fewer, told = tokens_of(corpus, of, tokenizer, 4000, where="trajectory_id < 't050'")
    assert fewer.keys["trajectory_id"].to_pylist() == [id for id in stored if id < "t050"]
    assert told.cached == told.rows == len(fewer)
    assert fewer.name != sequences.name


@pytest.mark.slow
def test_a_loader_with_workers_gives_each_row_once(corpus):
    from torch.utils.data import DataLoader

    from flywheel.corpus.streaming.dataset import CorpusDataset

    dataset = CorpusDataset(corpus, "support")
    stored = store.rows(corpus, "support", 1, "train")["id"].to_pylist()
    assert sorted(ids(dataset)) == stored
    first = ids(dataset)
    dataset.set_epoch(1)
    assert ids(dataset) != first
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert sorted(ids(loader)) == stored

"""A stream gives each row of a split once, in an order that seed and epoch alone decide."""

import pytest

from flywheel.corpus import store
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.stream import rendered, steps_of, stream
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


def test_seed_and_epoch_decide_the_order(corpus):
    def order(**options):
        return ids(stream(corpus, "support", columns=["id"], block=7, window=3, **options))

    assert order(seed=1) == order(seed=1) == order(seed=1, epoch=0)
    assert len({tuple(order(seed=seed, epoch=epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_workers_share_the_rows(corpus, workers):
    shares = [ids(stream(corpus, "support", block=7, worker=w, workers=workers)) for w in range(workers)]
    together = [row for share in shares for row in share]
    assert sorted(together) == store.rows(corpus, "support", 1, "train")["id"].to_pylist()


def test_rows_as_tokens_with_masks(corpus):
    tokenizer = byte_level(PLAIN)
    for row in rendered(stream(corpus, "support", block=7), tokenizer, 4000):
        wrote = tokenizer.decode([t for t, m in zip(row.input_ids, row.assistant_mask, strict=True) if m])
        number = int(row.trajectory_id[1:])
        assert wrote.startswith("<think>\nLook first.\n</think>") and wrote.endswith(f"{number} is done.<|im_end|>")
        assert row.reward == 1.0


def test_a_share_that_does_not_exist_is_refused(corpus):
    with pytest.raises(FlywheelError, match="worker 2 of 2"):
        stream(corpus, "support", worker=2, workers=2)


@pytest.mark.slow
def test_a_loader_with_workers_gives_each_row_once(corpus):
    from torch.utils.data import DataLoader

    from flywheel.corpus.dataset import CorpusDataset

    dataset = CorpusDataset(corpus, "support")
    stored = store.rows(corpus, "support", 1, "train")["id"].to_pylist()
    assert sorted(ids(dataset)) == stored
    first = ids(dataset)
    dataset.set_epoch(1)
    assert ids(dataset) != first
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert sorted(ids(loader)) == stored

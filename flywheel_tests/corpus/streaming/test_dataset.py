"""Loaders of torch: one stream for any number of workers and ranks, that stops and goes on anywhere."""

import pickle
from itertools import chain, islice, pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from flywheel.corpus.streaming import segments, sequences, tokens
from flywheel.corpus.streaming.dataset import CorpusBatches, CorpusLoader
from flywheel.corpus.streaming.examples import CorpusExamples
from flywheel.corpus.streaming.sequences import Sequences
from flywheel.schema import FlywheelError, trajectories_table
from flywheel.train.config import Size
from flywheel.train.policy import scratch
from flywheel_tests.corpus.conftest import trajectory
from flywheel_tests.views.conftest import PLAIN, byte_level

COUNT = 700
TOKENIZER = byte_level(PLAIN)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Sequences of 3 to 40 tokens in three files. Each begins with its number, and its last two tokens are trained."""
    folder = tmp_path_factory.mktemp("tokens")
    lengths = np.random.default_rng(0).integers(3, 41, COUNT)
    names = [f"{n:04}" for n in range(COUNT)]
    for part in range(3):
        mine = range(part, COUNT, 3)
        ids = [np.arange(lengths[n], dtype=np.int32) + 1000 * n for n in mine]
        wrote = [np.array([0] * (lengths[n] - 2) + [1, 2], np.int8) for n in mine]
        constant = {"window": 0, "n_trained": 2, "n_answers": 1, "n_calls": 1, "left_out": 0, "dropped": None}
        columns = {
            "content_digest": [names[n] for n in mine],
            "n_tokens": [len(i) for i in ids],
            "input_ids": ids,
            "wrote": wrote,
        } | {name: [value] * len(ids) for name, value in constant.items()}
        segments.write(folder, pa.table([pa.array(columns[f.name], f.type) for f in tokens.SEGMENT], tokens.SEGMENT))
    keys = pa.table({"trajectory_id": names, "content_digest": names})
    files = segments.files(folder)
    return Sequences("test", files, sequences.find(files, keys), pad_token=9)


def first_tokens(batch):
    """The numbers of the sequences in a batch."""
    if "cu_seq_lens_q" in batch:
        return (batch["input_ids"][0, batch["cu_seq_lens_q"][:-1].long()] // 1000).tolist()
    return (batch["input_ids"][:, 0] // 1000).tolist()


@pytest.mark.parametrize("pack", [None, 64])
def test_a_loader_goes_on_at_the_next_batch(held, pack):
    def loader(**options):
        return CorpusLoader(CorpusBatches(held, batch=16, pack=pack, seed=3), **options)

    first = loader()
    epochs = [[first_tokens(batch) for batch in first] for _ in range(2)]
    assert [sorted(chain(*epoch)) for epoch in epochs] == [list(range(COUNT))] * 2
    assert epochs[0] != epochs[1]
    assert len(first) == len(epochs[0])
    for stop in (0, 1, 7, len(epochs[0]) - 1):
        halfway = loader()
        assert len([*islice(halfway, stop)]) == stop
        state = pickle.loads(pickle.dumps(halfway.state_dict()))
        after = loader()
        after.load_state_dict(state)
        assert [first_tokens(batch) for batch in after] == epochs[0][stop:]
        assert [first_tokens(batch) for batch in after] == epochs[1]
    with pytest.raises(FlywheelError, match="another stream: its seed is 3, here it is 4"):
        CorpusLoader(CorpusBatches(held, batch=16, pack=pack, seed=4)).load_state_dict(state)


@pytest.mark.filterwarnings("ignore:lance is not fork-safe:UserWarning")  # the cache is read without it
@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_change_nothing(held, context):
    def loader(workers):
        return CorpusLoader(CorpusBatches(held, batch=8, pack=64, seed=1), workers=workers, context=context)

    alone = [first_tokens(batch) for batch in loader(0)]
    shared = loader(2)
    stream = iter(shared)
    seen = [first_tokens(next(stream)) for _ in range(5)]
    state = shared.state_dict()
    del stream
    resumed = loader(0)
    resumed.load_state_dict(state)
    assert seen + [first_tokens(batch) for batch in resumed] == alone


@pytest.mark.parametrize("pack", [None, 64])
def test_ranks_share_each_step(held, pack):
    """Twelve samples a step, on one rank, on three, or on four: the same steps."""

    def steps(ranks):
        loaders = [CorpusBatches(held, batch=12 // ranks, pack=pack, rank=r, ranks=ranks) for r in range(ranks)]
        assert len({len(loader) for loader in loaders}) == 1
        return [sorted(chain(*map(first_tokens, step))) for step in zip(*loaders, strict=True)]

    assert steps(1)[:-1] == steps(3)[:-1] == steps(4)[:-1]
    assert sorted(chain(*steps(1))) == list(range(COUNT))


@pytest.mark.parametrize("pack", [None, 64])
def test_what_a_step_holds_has_names(held, pack):
    batches = CorpusBatches(held, batch=5, pack=pack, rank=1, ranks=2).batches()
    names = batches.contents(3)["trajectory_id"].to_pylist()
    assert [int(name) for name in names] == first_tokens({n: torch.as_tensor(v) for n, v in batches.step(3).items()})
    assert batches.contents(len(batches)).num_rows == 0


def test_a_rank_without_a_share_of_the_last_step_trains_nothing(held):
    # 700 samples: the last step of 233 * 3 has one.
    last = [list(CorpusBatches(held, batch=1, rank=rank, ranks=3))[-1] for rank in range(3)]
    assert [int((batch["labels"] != -100).sum()) for batch in last] == [0, 0, 2]
    assert [len(batch["input_ids"]) for batch in last] == [1, 1, 1]


def test_batches_are_padded_on_the_right(held):
    batch = CorpusBatches(held, batch=4, seed=None).batches().items.padded(np.arange(4))
    lengths = held.lengths[:4]
    assert batch["input_ids"].shape == (4, lengths.max())
    for row, length in enumerate(lengths):
        assert batch["input_ids"][row].tolist() == [
            *range(1000 * row, 1000 * row + length),
            *[9] * (lengths.max() - length),
        ]
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (lengths.max() - length)
    tensors = next(iter(CorpusBatches(held, batch=4)))
    assert {name: value.dtype for name, value in tensors.items()} == dict.fromkeys(tensors, torch.int64)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_goes_on_at_the_next_batch(held, workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def loader():
        return stateful(CorpusBatches(held, batch=16, pack=64), batch_size=None, num_workers=workers)

    whole = [first_tokens(batch) for batch in loader()]
    halfway = loader()
    assert [first_tokens(batch) for batch in islice(halfway, 6)] == whole[:6]
    after = loader()
    after.load_state_dict(halfway.state_dict())
    assert [first_tokens(batch) for batch in after] == whole[6:]


def test_packs_are_as_full_as_those_of_trl(held):
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    rows = Dataset.from_dict({"input_ids": [[0] * n for n in held.lengths.tolist()]})
    theirs = pack_dataset(rows, 64, map_kwargs={"batch_size": None})
    ours = CorpusExamples(held, pack=64)
    assert len(ours) == len(theirs)
    assert sorted(sorted(example["seq_lengths"]) for example in ours) == sorted(map(sorted, theirs["seq_lengths"]))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Twenty conversations as tokens of single bytes."""
    folder = tmp_path_factory.mktemp("spoken")
    rows = trajectories_table([trajectory(n) for n in range(20)])
    segments.write(folder, tokens.tokenised(TOKENIZER, 400, rows))
    keys = rows.select(["id", "content_digest"]).rename_columns({"id": "trajectory_id"})
    files = segments.files(folder)
    return Sequences("spoken", files, sequences.find(files, keys), pad_token=TOKENIZER.pad_token_id)


def model():
    return scratch(TOKENIZER, Size(width=16, layers=2, heads=2, feed_forward=32), 512, seed=0)


def test_attention_stays_within_a_packed_sequence(spoken):
    policy = model().eval()
    batch = next(iter(CorpusBatches(spoken, batch=2, pack=800)))
    assert len(batch["cu_seq_lens_q"]) > 4
    with torch.no_grad():
        together = policy(**batch).logits[0]
        for start, end in pairwise(batch["cu_seq_lens_q"].tolist()):
            alone = policy(input_ids=batch["input_ids"][:, start:end]).logits[0]
            torch.testing.assert_close(together[start:end], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pack", [None, 800])
def test_a_plain_loop_learns(spoken, pack):
    policy = model().train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    losses = []
    loader = CorpusLoader(CorpusBatches(spoken, batch=2, pack=pack))
    for _ in range(2):
        for batch in loader:
            loss = policy(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("pack", [None, 800])
def test_a_trainer_of_trl_follows_the_order(spoken, pack, tmp_path):
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    args = SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_train_epochs=2, learning_rate=1e-2,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, dataloader_pin_memory=False,
        disable_tqdm=True, save_strategy="no", logging_steps=1, max_length=None, padding_free=pack is not None,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model(), args=args, processing_class=TOKENIZER, train_dataset=CorpusExamples(spoken, pack=pack)
    )
    seen = []
    given = trainer.compute_loss

    def compute_loss(policy, inputs, *args, **kwargs):
        seen.append(inputs["input_ids"])
        return given(policy, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    trainer.train()
    loader = CorpusLoader(CorpusBatches(spoken, batch=4, pack=pack))
    ours = [batch["input_ids"] for _ in range(2) for batch in loader]
    assert [ids.tolist() for ids in seen] == [ids.tolist() for ids in ours]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]

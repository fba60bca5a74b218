"""Imitation of a version: its conversations are tokenised once, and train as the rows themselves would."""

import json
from pathlib import Path

import pytest

from flywheel import artifacts
from flywheel.corpus import store
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.streaming import segments
from flywheel.settings import Home
from flywheel.train import policy, sft
from flywheel.train.config import SFTRun, Size
from flywheel.train.examples import examples, kept
from flywheel.train.run import Policy, run
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, trajectory, verdict, write

TINY = Size(width=16, layers=1, heads=2, feed_forward=32)


@pytest.fixture
def base(home: Home) -> str:
    """A model that knows the words of a corpus of twenty-four episodes, on its Monday."""
    write(home, [trajectory(n) for n in range(24)], [verdict(n, 1.0) for n in range(24)])
    snapshot(home, "support", SPEC, MONDAY)
    words = sft.vocabulary(store.rows(home, "support", 1, "train"))
    folder = home.root / "base"
    policy.save(policy.scratch(words, TINY, 256, seed=0), words, folder)
    return str(folder)


def config(data: str, base: str, **choices: int) -> SFTRun:
    return SFTRun(data=data, base=base, size=TINY, steps=8, batch=4, warmup=2, context=120, **choices)


def losses(trained: Policy) -> list[float]:
    return [json.loads(line)["loss"] for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]


def tokenised(home: Home) -> dict[Path, list[str]]:
    """The contents in each segment of tokens."""
    return {
        path: segments.opened(path).column("content_digest").to_pylist()
        for folder in (home.mapped / "support").glob("tokens-*")
        for path in segments.files(folder)
    }


def test_what_was_kept_is_what_the_rows_give(home: Home, base: str):
    _, words = policy.load(base)
    rows = store.rows(home, "support", 1, "train")
    # A context that holds no whole conversation, so that each is cut.
    for context in (60, 120):
        given = [
            (example["input_ids"].tolist(), example["labels"].tolist())
            for example in kept(home, manifest(home, "support", 1), words, context)
        ]
        assert given == [(example.input_ids, example.labels) for example in examples(words, rows, context)]
    assert len(given) == rows.num_rows


@pytest.mark.slow
def test_only_what_is_new_is_tokenised_and_the_policy_is_as_from_the_rows(home: Home, base: str, tmp_path: Path):
    trained = run(config("support@v1", base), home)
    first = tokenised(home)

    artifacts.write_parquet(tmp_path / "rows.parquet", store.rows(home, "support", 1, "train"))
    alone = run(config(str(tmp_path / "rows.parquet"), base), home)
    assert losses(alone) == losses(trained)
    assert alone.weights == trained.weights

    run(config("support@v1", base, seed=1), home)
    assert tokenised(home) == first

    write(
        home,
        [trajectory(n, TUESDAY) for n in range(24, 28)],
        [verdict(n, 1.0, "checker", TUESDAY) for n in range(24, 28)],
    )
    snapshot(home, "support", SPEC, TUESDAY)
    run(config("support@v2", base), home)
    second = tokenised(home)
    new = set(store.rows(home, "support", 2, "train")["content_digest"].to_pylist())
    new -= set(store.rows(home, "support", 1, "train")["content_digest"].to_pylist())
    assert 0 < len(new) <= 4
    before = [digest for held in first.values() for digest in held]
    assert sorted(digest for held in second.values() for digest in held) == sorted([*before, *new])

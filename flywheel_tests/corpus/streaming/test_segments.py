"""Many small segments become few, while others read them, and wherever the merge is killed."""

import multiprocessing
import os
import pickle
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flywheel.corpus.streaming import segments, sequences, texts, tokens
from flywheel.corpus.streaming.sequences import Sequences
from flywheel.corpus.streaming.texts import Texts
from flywheel.schema import FlywheelError

CONTENT = pa.schema([("content_digest", pa.string())])


def name(n):
    return f"{n:04}"


def text(n):
    return f"<|im_start|>user\nthis is number {n}"


def keys(count):
    return pa.table(
        {"trajectory_id": [name(n) for n in range(count)], "content_digest": [name(n) for n in range(count)]}
    )


def update(folder, *numbers):
    """Keep some more conversations, as each new version does."""
    with segments.locked(folder):
        segments.write(folder, texts.segment([name(n) for n in numbers], [text(n).encode() for n in numbers]))
        segments.merge(folder)


def held(folder):
    """How often each conversation is read."""
    _, found = segments.steadily(folder, lambda files: segments.index(files, CONTENT))
    return Counter(found["content_digest"].to_pylist())


def opened(folder, count):
    files, found = segments.steadily(folder, lambda files: texts.find(files, keys(count)))
    return Texts("texts", files, found)


def test_many_small_updates_leave_few_segments(tmp_path):
    for n in range(100):
        update(tmp_path, n)
        assert len(list(tmp_path.glob("*.arrow"))) < 3 * segments.MERGED_AT_ONCE
    assert held(tmp_path) == Counter(map(name, range(100)))
    assert opened(tmp_path, 100).batch(np.arange(100))["text"] == [text(n) for n in range(100)]


def test_large_segments_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SMALL", 1)
    for n in range(20):
        update(tmp_path, n)
    assert len(segments.files(tmp_path)) == 20


def test_who_reads_goes_on(tmp_path):
    for n in range(7):
        update(tmp_path, n)
    fresh, begun = opened(tmp_path, 7), opened(tmp_path, 7)
    sent = pickle.dumps(begun)
    assert begun.batch(np.array([3]))["text"] == [text(3)]
    update(tmp_path, 7)
    [_] = segments.files(tmp_path)
    for reader in (fresh, begun, pickle.loads(sent)):
        assert reader.batch(np.array([6, 0, 3]))["text"] == [text(6), text(0), text(3)]


def test_windows_that_are_trained_are_found_again(tmp_path):
    def windows(n):
        rows = [(name(n), 0, 2, n % 2, 0, 0, 0, None, [n, 1], [0, n % 2]), (name(n), 1, 1, 1, 1, 0, 0, None, [n], [1])]
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, tokens.SEGMENT, strict=True)], tokens.SEGMENT)

    for n in range(8):
        segments.write(tmp_path, windows(n))
    files, found = segments.steadily(tmp_path, lambda files: sequences.find(files, keys(8)))
    reader = Sequences("windows", files, found)
    assert len(reader) == 12
    before = reader.keys
    with segments.locked(tmp_path):
        assert segments.merge(tmp_path) == 8
    assert [of.ids.tolist() for of in reader.tokens(np.arange(4))] == [[0], [1, 1], [1], [2]]
    assert reader.keys.equals(before)


def test_what_was_erased_is_not_found_again(tmp_path):
    for n in range(7):
        update(tmp_path, n)
    reader = opened(tmp_path, 7)
    update(tmp_path, 7)
    assert segments.erase(tmp_path, [name(3)]) == 1
    with pytest.raises(FlywheelError, match="has been removed meanwhile"):
        reader.batch(np.array([0]))


@pytest.mark.parametrize("removed", range(segments.MERGED_AT_ONCE))
def test_a_merge_that_is_killed_while_it_removes(tmp_path, monkeypatch, removed):
    for n in range(7):
        update(tmp_path, n)
    reader = opened(tmp_path, 7)
    unlink, done = Path.unlink, []

    def killed(path, **options):
        if path.suffix == segments.SUFFIX:
            if len(done) == removed:
                raise KeyboardInterrupt
            done.append(path)
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            update(tmp_path, 7)
    assert len(list(tmp_path.glob("*.arrow"))) == 9 - removed
    assert held(tmp_path) == Counter(map(name, range(8)))
    assert reader.batch(np.arange(7))["text"] == [text(n) for n in range(7)]
    # Whoever writes next clears it up; whoever erases finds all of it.
    assert segments.erase(tmp_path, [name(3)]) == 1
    assert held(tmp_path) == Counter(map(name, (0, 1, 2, 4, 5, 6, 7)))
    assert len(list(tmp_path.glob("*.arrow"))) == 1
    assert not any(b"this is number 3" in path.read_bytes() for path in tmp_path.iterdir())


def updates(folder, first, last):
    for n in range(first, last):
        update(folder, n)


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path):
    """What was there before each kill is read once after it; and all the while by a reader beside."""
    chance = random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flywheel.corpus.streaming.texts"])
    first, seen = 0, 0
    for _ in range(8):
        writer = context.Process(target=updates, args=(tmp_path, first, first + 500))
        writer.start()
        until = time.monotonic() + 120
        while len(held(tmp_path)) <= seen and time.monotonic() < until:
            time.sleep(0.01)
        until = time.monotonic() + chance.uniform(0.05, 0.6)
        while time.monotonic() < until:
            found = held(tmp_path)
            assert set(found.values()) == {1} and len(found) >= seen
            seen = len(found)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = held(tmp_path)
        assert set(found.values()) == {1} and len(found) >= seen
        first = seen = len(found)
    with segments.locked(tmp_path):
        segments.merge(tmp_path)
    assert held(tmp_path) == found
    assert len(list(tmp_path.glob("*.arrow"))) < 3 * segments.MERGED_AT_ONCE

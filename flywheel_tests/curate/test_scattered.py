"""Rows from all over a table: the same by io_uring and without, from many threads, and after a fork."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import lance
import numpy as np
import pyarrow as pa
import pytest

from flywheel.curate import scattered as of
from flywheel.curate.scattered import awake, scattered, sparse


@pytest.fixture
def dataset(tmp_path):
    table = pa.table({"number": np.arange(5000), "text": [f"text {number} " * 30 for number in range(5000)]})
    return lance.write_dataset(table, str(tmp_path / "t.lance"), data_storage_version="2.1")


def test_the_same_rows_from_many_threads(dataset):
    quick = scattered(dataset)

    def same(seed):
        rows = np.random.default_rng(seed).choice(5000, 200, replace=False)
        return quick.take(rows).equals(dataset.take(rows))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(same, range(16)))


def test_the_same_state_of_the_table(dataset):
    lance.write_dataset(dataset.to_table().slice(0, 10), dataset.uri, mode="overwrite")
    assert scattered(dataset).count_rows() == 5000
    assert scattered(lance.dataset(dataset.uri)).count_rows() == 10


def test_neighbours_are_read_together():
    assert [sparse(np.array(places)) for places in ([], [7], [3, 4, 5], [5, 0, 9], [0, 1000, 500])] == [
        False,
        False,
        False,
        False,
        True,
    ]


def test_where_the_kernel_offers_nothing_the_table_is_as_it_was(dataset, monkeypatch):
    monkeypatch.setattr(of, "_uring", lambda: None)
    assert scattered(dataset) is awake(dataset) is dataset


@pytest.mark.filterwarnings("ignore:lance is not fork-safe", "ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_for_itself(dataset):
    quick = scattered(dataset)
    quick.take([1])
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(0 if awake(quick).take([7, 3])["number"].to_pylist() == [7, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0

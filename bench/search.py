"""Search: the nearest vectors under a filter against Deep Lake and others, full text against an index, and how well.

python -m bench.search [--rows 100000] [--episodes 5000] [--real FOLDER]

Deep Lake and HF datasets come with the extra `bench`; without them our own figures are made alone. `--real` names a
folder of real captures: tau-bench, tau2 and intercode in folders of their names. Then it is measured how well each
embedder finds trajectories of the same task.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import measure, relevance, traffic
from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.corpus.retrieval.search import Index
from flywheel.curate import derived, embeddings, terms
from flywheel.curate.fingerprint import EPISODE
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

START = datetime(2026, 3, 2, tzinfo=UTC)
WHERE = "success AND task_type = 'desk'"
TOP = 50

# One question of forty words for each trajectory, of one kind in three, and three in ten succeed.
ASKED = """
SELECT md5(i::VARCHAR) AS id, 'bench' AS workspace, 't' || i AS task_id, 'g' || (i % 1000) AS task_group,
    ['desk', 'files', 'web'][1 + i % 3] AS task_type, 'bot' AS agent, '1' AS agent_version, 'm' AS model,
    'p' AS provider, '[]' AS tools, 'completed' AS end_state, NULL::TIMESTAMPTZ AS started_at, $start AS arrived_at,
    'bench' AS source, i AS source_line, '{}' AS metadata,
    [{'role': 'user', 'content': array_to_string(list_transform(range(40),
        lambda w: 'w' || (power(4000, (hash(i * 40 + w) % 10007) / 10007))::INTEGER), ' '), 'reasoning': NULL,
      'tool_calls': []::STRUCT(id VARCHAR, "name" VARCHAR, arguments VARCHAR)[], 'tool_call_id': NULL,
      'tool_name': NULL, 'is_error': NULL::BOOLEAN, 'prompt_tokens': NULL::BIGINT,
      'completion_tokens': NULL::BIGINT, 'at': NULL::TIMESTAMPTZ, 'metadata': '{}'}] AS steps,
    1::INTEGER AS n_steps, md5('c' || i) AS content_digest
FROM range($n) AS t(i)
"""
HEARD = """
SELECT md5('o' || i) AS id, 'bench' AS workspace, md5(i::VARCHAR) AS trajectory_id, 'reward' AS signal,
    (hash(i) % 10 < 3)::DOUBLE AS value, 'bench' AS source, '1' AS checker_version, NULL::INTEGER AS step_index,
    $start AS observed_at, $start + to_hours(1) AS arrived_at, '' AS comment
FROM range($n) AS t(i)
"""


def fill(home: Home, rows: int) -> None:
    """Captures of one question each, and whether they succeeded."""
    workspaces.create(home, "bench", START)
    with warehouse.connect() as connection:
        given = {"start": START, "n": rows}
        captures = connection.sql(ASKED, params=given).to_arrow_table().cast(TRAJECTORIES)
        outcomes = connection.sql(HEARD, params=given).to_arrow_table().cast(OUTCOMES)
    for root, table in ((home.captures, captures), (home.outcomes, outcomes)):
        artifacts.write_parquet(warehouse.partition(root, "bench", START.date()) / "all.parquet", table)


def columns(home: Home) -> pa.Table:
    """What peers are given: id, success, task_type and vector of each trajectory."""
    index = Index(home)
    vectors = derived.bring(home, "bench", embeddings.derivation(index.embedder))
    with warehouse.connect() as connection:
        connection.register("stored", vectors.to_table(columns=["id", "vector"]))
        connection.register("candidates", index.candidates)
        return connection.sql(
            "SELECT id, success, task_type, vector FROM stored JOIN candidates ON id = trajectory_id ORDER BY id"
        ).to_arrow_table()


def matrix(table: pa.Table) -> np.ndarray:
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)


def nearest(runs: int, rows: int, folder: Path) -> list[dict[str, Any]]:
    """The time of the top 50 by vector under a filter; every way must find the same."""
    home = Home(folder / "home")
    fill(home, rows)
    began = time.perf_counter()
    Index(home).find("w17", mode="vector", limit=1)
    brought = time.perf_counter() - began
    table = columns(home)
    index = Index(home)
    query = index.embedder.query("w17 w4 w100 w2000 w2001 w31 w8")
    ways: dict[str, Callable[[], list[str]]] = {
        "flywheel, an index that is held": lambda: _ids(index.nearest(query, where=WHERE, limit=TOP)),
        "flywheel, opened, joined with outcomes and asked": lambda: _ids(
            Index(home).nearest(query, where=WHERE, limit=TOP)
        ),
        "numpy, columns held in memory": _numpy(table, query),
        "Lance, its own flat search with the filter": _lance(table, query, folder / "peer.lance"),
    }
    if importlib.util.find_spec("deeplake"):
        ways |= _deeplake(table, query, folder / "deeplake")
    if importlib.util.find_spec("datasets"):
        ways |= _datasets(table, query, folder / "datasets")
    expected = matrix(table)[table["success"].to_numpy() & (table["task_type"].to_numpy() == "desk")] @ query
    expected = np.sort(expected)[::-1][:TOP]
    similar = dict(zip(table["id"].to_pylist(), (matrix(table) @ query).tolist(), strict=True))
    for name, way in ways.items():
        found = sorted((similar[id] for id in way()), reverse=True)
        assert np.allclose(found, expected, atol=1e-5), f"{name} found something else"
    timings = measure.race(runs, ways)
    held = timings["flywheel, an index that is held"].median
    found = [
        {"way": name, "seconds": timing, "times flywheel's held index": timing.median / held}
        for name, timing in timings.items()
    ]
    return [*found, {"way": f"flywheel, reading and embedding {rows:,} captures once", "seconds": brought}]


def _ids(table: pa.Table) -> list[str]:
    return table["trajectory_id"].to_pylist()


def _numpy(table: pa.Table, query: np.ndarray) -> Callable[[], list[str]]:
    vectors, ids = matrix(table), table["id"].to_numpy()
    success, kind = table["success"].to_numpy(), table["task_type"].to_numpy()
    return lambda: _brute(ids, success, kind, vectors, query)


def _brute(ids: Any, success: Any, kind: Any, vectors: Any, query: np.ndarray) -> list[str]:
    scores = np.where(success & (kind == "desk"), vectors @ query, -np.inf)
    return ids[np.argpartition(-scores, TOP)[:TOP]].tolist()


def _lance(table: pa.Table, query: np.ndarray, path: Path) -> Callable[[], list[str]]:
    import lance

    dataset = lance.write_dataset(table, str(path))
    asked: Any = {"column": "vector", "q": query, "k": TOP, "metric": "cosine", "use_index": False}

    def search() -> list[str]:
        condition = "success = true AND task_type = 'desk'"
        return dataset.to_table(columns=["id", "_distance"], nearest=asked, filter=condition, prefilter=True)[
            "id"
        ].to_pylist()

    return search


def _deeplake(table: pa.Table, query: np.ndarray, path: Path) -> dict[str, Callable[[], list[str]]]:
    import deeplake  # pyright: ignore[reportMissingImports]  # in the extra

    written = deeplake.create(f"file://{path}")
    for name, kind in (("id", deeplake.types.Text()), ("task_type", deeplake.types.Text())):
        written.add_column(name, kind)
    written.add_column("success", deeplake.types.Bool())
    written.add_column("vector", deeplake.types.Embedding(len(query)))
    for start in range(0, len(table), 10_000):
        part = table.slice(start, 10_000)
        written.append(
            {
                "id": part["id"].to_pylist(),
                "task_type": part["task_type"].to_pylist(),
                "success": part["success"].to_numpy(),
                "vector": matrix(part),
            }
        )
    written.commit()
    opened = deeplake.open(f"file://{path}")
    like = ",".join(map(str, query.tolist()))
    asked = (
        f"SELECT id WHERE success = true AND task_type = 'desk' "
        f"ORDER BY COSINE_SIMILARITY(vector, ARRAY[{like}]) DESC LIMIT {TOP}"
    )

    def anew() -> list[str]:
        again = deeplake.open(f"file://{path}")
        return list(again.query(asked)["id"][:])

    def by_hand() -> list[str]:
        names = ("id", "success", "task_type", "vector")
        ids, success, kind, vectors = (np.asarray(opened[name][:]) for name in names)
        return _brute(ids, success.astype(bool), kind, vectors, query)

    return {
        "Deep Lake, its query": lambda: list(opened.query(asked)["id"][:]),
        "Deep Lake, opened and its query": anew,
        "Deep Lake, columns read and numpy": by_hand,
    }


def _datasets(table: pa.Table, query: np.ndarray, path: Path) -> dict[str, Callable[[], list[str]]]:
    from datasets import Dataset, load_from_disk

    Dataset(table).save_to_disk(str(path))
    opened = load_from_disk(str(path)).with_format("arrow")

    def by_hand() -> list[str]:
        given = opened[:]
        ids, kind = given["id"].to_numpy(), given["task_type"].to_numpy()
        return _brute(ids, given["success"].to_numpy(), kind, matrix(given), query)

    return {"HF datasets, columns read and numpy": by_hand}


def text(runs: int, episodes: int, folder: Path) -> list[dict[str, Any]]:
    """Full text: our counted terms against Lance's index, and what keeping them up to date costs."""
    import lance

    home = Home(folder / "text")
    traffic.fill(home, episodes)
    began = time.perf_counter()
    counted = derived.bring(home, traffic.WORKSPACE, terms.ROWS)
    ours = time.perf_counter() - began
    with warehouse.connect() as connection:
        scan = warehouse.scan_sql(home.captures, TRAJECTORIES)
        table = connection.sql(f"SELECT id, {EPISODE} AS text FROM {scan}").to_arrow_table()
    indexed = lance.write_dataset(table, str(folder / "text.lance"))
    before = measure.bytes_under(folder / "text.lance")
    began = time.perf_counter()
    indexed.create_scalar_index("text", "INVERTED", with_position=False)
    theirs = time.perf_counter() - began
    size = measure.bytes_under(folder / "text.lance") - before
    words = table["text"][0].as_py().split()[10:60:10]
    query = " ".join(words)
    index = Index(home, embedder=embeddings.embedder())
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: index.find(query, mode="text", limit=TOP),
        "lance": lambda: indexed.to_table(columns=["id", "_score"], full_text_query=query, limit=TOP),
    }
    timings = measure.race(runs, ways)
    more = table.slice(0, max(1, episodes // 100))
    indexed = lance.write_dataset(more, indexed, mode="append")
    began = time.perf_counter()
    indexed.optimize.optimize_indices()
    again = time.perf_counter() - began
    captures = pq.read_table(warehouse.files(home.captures)[0]).slice(0, len(more))
    ids = pa.array([f"again {place}" for place in range(len(captures))])
    warehouse.append(home.captures, captures.set_column(0, captures.schema.field("id"), ids))
    began = time.perf_counter()
    derived.bring(home, traffic.WORKSPACE, terms.ROWS)
    arrived = time.perf_counter() - began
    return [
        {
            "way": "flywheel, counted terms (with excerpts of the found)",
            "top 50": timings["ours"],
            "made in": measure.seconds(ours),
            "bytes": measure.size(measure.bytes_under(Path(counted.uri))),
            "after 1 % more": measure.seconds(arrived),
        },
        {
            "way": "Lance, its full-text index",
            "top 50": timings["lance"],
            "made in": measure.seconds(theirs),
            "bytes": f"{measure.size(size)} (and the text, {measure.size(before)})",
            "after 1 % more": measure.seconds(again),
        },
    ]


def run(rows: int = 100_000, episodes: int = 5000, runs: int = 5, real: Path | None = None) -> None:
    """Measure and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        found = nearest(runs, rows, Path(folder))
        measure.write(
            "search",
            found,
            title=f"Top 50 by vector with a filter, {rows:,} trajectories",
            note=f"Vectors of {embeddings.hashing.SIZE} numbers; the filter is {WHERE!r}, one row in ten. Every way "
            "finds the same 50. Ours asks for verdicts as of now: they are joined from the ledger when an index is "
            "opened, and the condition may be any that a snapshot's filter may be; peers have both as columns.",
        )
        measure.write(
            "search-text",
            text(runs, episodes, Path(folder)),
            title=f"Full text, {episodes:,} episodes of about 800 words",
            note="An index answers sooner and has to be kept: Lance merges it whole after each arrival, scores with "
            "the frequencies of its last merge, and keeps the words of rows that were erased until then. Counted "
            "terms are read as they stand.",
        )
    if real:
        measure.write(
            "search-relevance",
            relevance.rows(real),
            title="How often trajectories of the same task are found, real captures",
            note=relevance.NOTE,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    if options.real and not options.real.is_dir():
        raise FlywheelError(f"there is no folder {options.real}")
    run(options.rows, options.episodes, options.runs, options.real)


if __name__ == "__main__":
    main()

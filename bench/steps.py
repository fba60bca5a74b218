"""Filter and join over the steps of a corpus, and taking random trajectories, against other stores of the same rows.

python -m bench.steps [--trajectories 100000] [--runs 5] [--keep FOLDER]

The question: of the trajectories that succeeded with a reward above .85 on one type of task in fewer than twenty steps,
every step, best trajectories first. Once without what was said (who acted, with which tool, at what cost), once
with it. Warm: every store has been opened and asked before. Peers are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from bench import curate, measure, traffic
from flywheel.corpus import store
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.corpus.opened import Opened
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.spec import Spec
from flywheel.settings import Home

CORPUS = "everything"
# All that has a verdict, so that success is a question and not a given.
SPEC = Spec(
    workspace=traffic.WORKSPACE,
    filter="true",
    reward_policy=traffic.POLICY,
    prefix_duplicates=False,
    same_effects=False,
    near_duplicates=None,
)
WHERE = "success AND reward > 0.85 AND task_type = 'refund' AND n_steps < 20"
KNOWN = ["id", "reward", "success", "task_type", "n_steps"]
LIGHT = ["role", "tool_name", "is_error", "completion_tokens"]
WHOLE = [*LIGHT, "content", "reasoning"]
TAKEN = 1000
TAKES = (
    "As stored: flywheel's are packed, HF's are Arrow, the others' JSON text. "
    "As steps: flywheel's and HF's in Arrow, the others' parsed by msgspec. Asked for: at least Deep Lake's best. Two "
    "thirds of ours is Lance, which reads compressed values from all over the file; the rest unpacks them."
)

Work = Callable[[], Any]


def build(home: Home) -> None:
    """The version that is asked."""
    snapshot(home, CORPUS, SPEC, traffic.settled())


def export(home: Home, of: Manifest, folder: Path) -> None:
    """The version's rows for other stores: one Parquet file of trajectories, one of steps, in order of id and place."""
    folder.mkdir(parents=True)
    trajectories, steps, whole = [], [], []
    for batch in store.batches(home, of, columns=[*KNOWN, "steps"]):
        frame = _frame(batch)
        trajectories.append(frame.select(KNOWN))
        flat = frame.select("id", step=pl.int_ranges(pl.col("steps").list.len()), s="steps").explode("step", "s")
        steps.append(flat.select("id", "step", *(pl.col("s").struct.field(name) for name in WHOLE)))
        whole.append(frame.select("id", "steps"))
    pl.concat(trajectories).write_parquet(folder / "trajectories.parquet")
    pl.concat(steps).write_parquet(folder / "steps.parquet")
    pl.concat(whole).write_parquet(folder / "whole.parquet", row_group_size=1024)


def questions(home: Home, of: Manifest, folder: Path, columns: list[str]) -> dict[str, Work]:
    """The same question to each store; each answer is a frame of id, reward, step and the columns."""

    version = Opened(home, of)

    def ours() -> pl.DataFrame:
        found = version.where(WHERE).select("trajectory_id", "reward")
        steps = version.steps(found.sort(["reward", "trajectory_id"], descending=[True, False]), columns)
        return steps.rename({"trajectory_id": "id", "step_index": "step"}).cast({"step": pl.Int64})

    wanted = ", ".join(columns)
    asked = f"""
        SELECT id, reward, step, {wanted} FROM {{}} AS t JOIN {{}} AS s USING (id)
        WHERE {WHERE} ORDER BY reward DESC, id, step
    """
    connection = duckdb.connect(str(folder / "steps.duckdb"))
    if not connection.sql("SHOW TABLES").fetchall():
        for name in ("trajectories", "steps"):
            connection.sql(f"CREATE TABLE {name} AS FROM read_parquet('{folder / name}.parquet')")
    files = [f"read_parquet('{folder / name}.parquet')" for name in ("trajectories", "steps")]

    def polars() -> pl.DataFrame:
        condition = (
            pl.col("success") & (pl.col("reward") > 0.85) & (pl.col("task_type") == "refund") & (pl.col("n_steps") < 20)
        )
        steps = pl.scan_parquet(folder / "steps.parquet").select("id", "step", *columns)
        return (
            pl.scan_parquet(folder / "trajectories.parquet")
            .filter(condition)
            .join(steps, on="id")
            .select("id", "reward", "step", *columns)
            .sort(["reward", "id", "step"], descending=[True, False, False])
            .collect()
        )

    asks: dict[str, Work] = {
        "flywheel": ours,
        "DuckDB file": lambda: connection.sql(asked.format("trajectories", "steps")).pl(),
        "DuckDB on Parquet": lambda: connection.sql(asked.format(*files)).pl(),
        "polars on Parquet": polars,
    }
    if find_spec("deeplake"):
        asks |= _deeplake_questions(folder, columns)
    return asks


def takes(home: Home, of: Manifest, folder: Path, count: int = TAKEN) -> dict[str, tuple[Work, Work]]:
    """A thousand random trajectories, whole, from each store that is open; each asks for other rows each time.

    Once as they are stored, and once so that a step can be looked at: JSON is parsed, what is packed is unpacked.
    """
    version = Opened(home, of)
    some = _random(of.rows, min(count, of.rows))

    def ours() -> pa.Table:
        return version.take(version.rows[next(some)], ["id", "steps"])

    def packed() -> pa.ChunkedArray:
        return version.packed(version.rows[next(some)])

    whole = folder / "whole.parquet"
    data, offsets = _records(whole, folder / "records.bin")

    def records() -> list[bytes]:
        return [bytes(data[offsets[place] : offsets[place + 1]]) for place in next(some)]

    asks = {"flywheel": (packed, ours), "numpy memmap of JSON records": _parsed(records)}
    if find_spec("datasets"):
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        rows = Dataset.from_parquet(str(whole), cache_dir=str(folder / "hf")).with_format("arrow")

        def indexed() -> pa.Table:
            return rows[next(some).tolist()].combine_chunks()

        def selected() -> pa.Table:
            return rows.select(np.sort(next(some)))[:].combine_chunks()

        asks |= {"HF datasets, indexed": (indexed, indexed), "HF datasets, selected in order": (selected, selected)}
    if find_spec("deeplake"):
        asks |= {store: _parsed(work) for store, work in _deeplake_takes(folder, some).items()}
    return asks


def _parsed(texts: Work) -> tuple[Work, Work]:
    """Taking JSON texts, as they are and parsed."""
    return texts, lambda: [msgspec.json.decode(text) for text in texts()]


def run(root: Path, trajectories: int, runs: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """The two tables, and what they were asked of."""
    home = curate.folder(root, trajectories)
    measure.apart(build, home)
    of = manifest(home, CORPUS)
    with tempfile.TemporaryDirectory(dir=root) as temporary:
        folder = Path(temporary) / "export"
        measure.apart(export, home, of, folder)
        times: dict[str, dict[str, measure.Timing]] = {}
        for name, columns in (("without text", LIGHT), ("with text", WHOLE)):
            asks = questions(home, of, folder, columns)
            answers = {store: answer() for store, answer in asks.items()}
            for other in answers.values():
                assert answers["flywheel"].height == len(other) > 0
            exact = [a for a in answers.values() if isinstance(a, pl.DataFrame)]
            assert all(a.equals(exact[0]) for a in exact)
            found = answers["flywheel"].height
            times[name] = measure.race(runs, asks)
        joined = [{"store": s, **{name: times[name][s] for name in times}} for s in times["without text"]]
        asked = takes(home, of, folder)
        stored, steps_of = (
            measure.race(runs, {store: works[part] for store, works in asked.items()}) for part in (0, 1)
        )
        taken = [{"store": s, "as stored": stored[s], "as steps": steps_of[s]} for s in asked]
        steps = pl.scan_parquet(folder / "steps.parquet").select(pl.len()).collect().item()
        opening = measure.median_of(runs, lambda: Opened(home, of)).median
    note = (
        f"{of.rows:,} trajectories, {steps:,} steps; the answer has {found:,} steps. "
        f"To open a version takes {measure.seconds(opening)}, once."
    )
    return joined, taken, note


def _deeplake_questions(folder: Path, columns: list[str]) -> dict[str, Work]:
    """Deep Lake has no joins: its own way is a query over trajectories and a read of their steps, or wide steps."""
    import deeplake

    trajectories, steps = _deeplake(folder)
    first = np.concatenate([[0], np.cumsum(_column(trajectories, "n_steps"))])
    known = "success = true and reward > 0.85 and task_type = 'refund' and n_steps < 20"
    wanted = ", ".join(columns)

    def two() -> dict[str, Any]:
        found = trajectories.query(f"SELECT place, reward WHERE {known}")
        places, reward = _column(found, "place"), _column(found, "reward")
        places = places[np.lexsort((places, -reward))]
        rows = np.concatenate([np.arange(first[p], first[p + 1]) for p in places])
        order = np.argsort(rows)
        back = np.argsort(order)
        view = steps[rows[order].tolist()]
        return _Rows(len(rows), {name: np.asarray(view[name][:])[back] for name in columns})

    def wide() -> Any:
        view = steps.query(f"SELECT id, step, reward, {wanted} WHERE {known} ORDER BY reward DESC")
        return _Rows(len(view), {name: view[name][:] for name in columns})

    assert deeplake
    return {"Deep Lake, two datasets": two, "Deep Lake, one wide dataset": wide}


def _deeplake_takes(folder: Path, some: Iterator[np.ndarray[Any, Any]]) -> dict[str, Work]:
    import deeplake

    data, offsets = _records(folder / "whole.parquet", folder / "records.bin")
    dataset = deeplake.create(str(folder / "lake-whole"))
    dataset.add_column("steps", deeplake.types.Text())
    for start in range(0, len(offsets) - 1, 4096):
        end = min(start + 4096, len(offsets) - 1)
        dataset.append({"steps": [bytes(data[offsets[i] : offsets[i + 1]]).decode() for i in range(start, end)]})
    dataset.commit()
    dataset = deeplake.open_read_only(str(folder / "lake-whole"))
    return {
        "Deep Lake, indexed": lambda: dataset["steps"][next(some).tolist()],
        "Deep Lake, in order": lambda: dataset["steps"][np.sort(next(some)).tolist()],
    }


def _deeplake(folder: Path) -> tuple[Any, Any]:
    """Trajectories, and their steps in order with the trajectories' columns repeated on each."""
    import deeplake

    kinds = {
        "id": deeplake.types.Text(),
        "place": deeplake.types.Int64(),
        "step": deeplake.types.Int64(),
        "reward": deeplake.types.Float64(),
        "success": deeplake.types.Bool(),
        "task_type": deeplake.types.Text(),
        "n_steps": deeplake.types.Int64(),
        "role": deeplake.types.Text(),
        "tool_name": deeplake.types.Text(),
        "is_error": deeplake.types.Bool(),
        "completion_tokens": deeplake.types.Int64(),
        "content": deeplake.types.Text(),
        "reasoning": deeplake.types.Text(),
    }
    trajectories = pl.read_parquet(folder / "trajectories.parquet").with_row_index("place")
    steps = pl.read_parquet(folder / "steps.parquet")
    frames = {"lake-trajectories": trajectories, "lake-steps": steps.join(trajectories, on="id", maintain_order="left")}
    opened = []
    for name, frame in frames.items():
        path = folder / name
        if not path.exists():
            dataset = deeplake.create(str(path))
            for column in frame.columns:
                dataset.add_column(column, kinds[column])
            for rows in frame.iter_slices(65536):
                filled = rows.with_columns(
                    pl.col(pl.String).fill_null(""), pl.col(pl.Boolean).fill_null(False), pl.col(pl.Int64).fill_null(0)
                )
                dataset.append(
                    {
                        c: filled[c].to_list()
                        if filled[c].dtype == pl.String
                        else filled[c].to_numpy().astype(_NUMPY.get(filled[c].dtype, filled[c].to_numpy().dtype))
                        for c in frame.columns
                    }
                )
            dataset.commit()
        opened.append(deeplake.open_read_only(str(path)))
    return opened[0], opened[1]


_NUMPY = {pl.UInt32: np.int64, pl.Int32: np.int64, pl.Boolean: np.bool_}


class _Rows(dict[str, Any]):
    """Columns of an answer whose length is the number of rows."""

    def __init__(self, rows: int, columns: dict[str, Any]) -> None:
        super().__init__(columns)
        self.rows = rows

    def __len__(self) -> int:
        return self.rows


def _column(dataset: Any, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(dataset[name][:])


def _records(whole: Path, path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Each trajectory as JSON text, one after the other in a mapped file, and where each begins."""
    offsets = path.with_suffix(".npy")
    if not path.exists():
        sizes = [0]
        with path.open("wb") as file:
            for rows in pl.read_parquet(whole).iter_slices(4096):
                for row in rows.iter_rows(named=True):
                    sizes.append(file.write(json.dumps(row, default=_text).encode()))
        np.save(offsets, np.cumsum(sizes))
    return np.memmap(path, np.uint8, mode="r"), np.load(offsets)


def _text(value: datetime) -> str:
    return value.isoformat()


def _random(rows: int, count: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    random = np.random.default_rng(0)
    while True:
        yield random.choice(rows, count, replace=False)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="a folder in which generated traffic is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        joined, taken, note = run(options.keep or Path(temporary), options.trajectories, options.runs)
    measure.write("steps", joined, title="Filter and join over the steps of a corpus", note=f"{note} Asked for: 50 ms.")
    measure.write("steps-take", taken, title=f"Take {TAKEN:,} random trajectories, whole", note=f"{note} {TAKES}")


if __name__ == "__main__":
    main()

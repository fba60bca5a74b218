"""Mentions of a person in what the wheel made of environments: trees, pairs, reports, and what will be heard."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.capture.erasing.erasure import Erasure, Tombstones
from flywheel.capture.erasing.traces import Asked
from flywheel.preferences.pairs import reasons
from flywheel.schema import canonical_json
from flywheel.settings import Home

ERASED = "[erased]"

# What is no text, or is searched row by row, or would tell of the erasure itself.
NO_TEXT = {".parquet", ".lance", ".arrow", ".safetensors", ".png", ".bin", ".pt", ".manifest", ".txn"}
OWN = ("captures", "outcomes", "quarantine", "journals", "derived", "erasures")

# The reason of a branch point that named the person; what was said at it is gone.
REASON = "erased"


def survey(home: Home, record: Erasure) -> dict[str, int]:
    """What `clear` will do: by file or folder in the data folder, how many rows or mentions."""
    pattern = Asked(subjects=record.subjects).pattern
    found: dict[str, int] = {}
    for path in sorted(home.forthcoming.glob("[!.]*.parquet")):
        found[_named(home, path)] = int(_heard(record, pq.read_table(path)).sum())
    if pattern:
        for place in _folders(home, "trees"):
            found[_named(home, place)] = len(_trees(place, pattern))
        for path in sorted(home.trees.glob("[!.]*.parquet")):
            found[_named(home, path)] = int(_rows(pq.read_table(path), pattern).sum())
        for place in _folders(home, "pairs"):
            found[_named(home, place)] = sum(int(_rows(table, pattern).sum()) for table in _pairs(place))
        for path in _pages(home):
            found[_named(home, path)] = len(re.findall(pattern, path.read_text("utf-8", "replace")))
    return {name: count for name, count in found.items() if count}


def clear(home: Home, record: Erasure) -> None:
    """Drop the trees, paths and pairs that name the person, and mask the name in reports; each file whole or not.

    What will be heard of erased episodes is dropped, too. Of a branch point that named the person the reason is
    `erased`, so that counts add up.
    """
    pattern = Asked(subjects=record.subjects).pattern
    for name in record.cleared or {}:
        path = home.root / name
        if path.parent == home.forthcoming:
            table = pq.read_table(path)
            artifacts.write_parquet(path, table.filter(pa.array(~_heard(record, table))))
        elif pattern is None or not path.exists():
            continue
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            artifacts.write_parquet(path, table.filter(pa.array(~_rows(table, pattern))))
        elif path.parent == home.trees:
            _clear_trees(path, pattern)
        elif path.parent == home.pairs:
            _clear_pairs(path, pattern)
        else:
            text = path.read_text("utf-8", "replace")
            for _ in range(2):  # of two that share the space between them, the first time masks one
                text = re.sub(pattern, rf"\1{ERASED}\2", text)
            artifacts.write_bytes(path, text.encode())


def left(home: Home, record: Erasure) -> tuple[str, ...]:
    """The files in the data folder in which a text stands still: logs of Dagster, what a person put there, and ids.

    Decisions of old versions keep the ids of their candidates: that is what makes their digests verifiable.
    """
    pattern = Asked(subjects=record.subjects).pattern
    if pattern is None:
        return ()
    search = re.compile(pattern).search
    decided = sorted(home.corpora.glob("[!.]*/decisions/*.parquet"))
    named = [str(path.relative_to(home.data)) for path in decided if _rows(_ids(path), pattern).any()]
    for path in sorted(home.root.rglob("*")):
        own = path.suffix in NO_TEXT or path.relative_to(home.root).parts[0] in OWN
        if path.is_file() and not own and search(path.read_bytes().decode("utf-8", "replace")):
            named.append(_named(home, path))
    return tuple(named)


def _clear_trees(place: Path, pattern: str) -> None:
    gone = _trees(place, pattern)
    heads, nodes = (pq.read_table(place / name) for name in ("trees.parquet", "nodes.parquet"))
    heads, nodes = (
        table.filter(pa.array([tree not in gone for tree in table["tree_id"].to_pylist()], pa.bool_()))
        for table in (heads, nodes)
    )
    digest = hashlib.sha256(canonical_json([heads.to_pylist(), nodes.to_pylist()]).encode()).hexdigest()
    with artifacts.folder(place) as beside:
        _copied(place, beside)
        artifacts.write_parquet(beside / "trees.parquet", heads)
        artifacts.write_parquet(beside / "nodes.parquet", nodes)
        manifest = {"digest": digest, "trees": len(heads), "nodes": len(nodes)}
        artifacts.write_json(beside / artifacts.MANIFEST, manifest)


def _clear_pairs(place: Path, pattern: str) -> None:
    chosen, points = _pairs(place)
    chosen = chosen.filter(pa.array(~_rows(chosen, pattern)))
    named = np.isin(points["pair_id"].to_numpy(), chosen["pair_id"].to_numpy(), invert=True)
    named &= np.array([reason == "kept" for reason in points["reason"].to_pylist()])
    gone = named | _rows(points, pattern)
    told = {"reason": REASON, "chosen": None, "rejected": None, "decision": None}
    rows = [row | told if out else row for row, out in zip(points.to_pylist(), gone, strict=True)]
    points = pa.Table.from_pylist(rows, schema=points.schema)
    decisions = chosen.group_by("decision", use_threads=False).aggregate([([], "count_all")]).to_pylist()
    manifest = artifacts.read_json(place / artifacts.MANIFEST) | {
        "digest": hashlib.sha256(canonical_json(chosen.to_pylist()).encode()).hexdigest(),
        "pairs": chosen.num_rows,
        "reasons": reasons(points),
        "decisions": {row["decision"]: row["count_all"] for row in decisions},
    }
    with artifacts.folder(place) as beside:
        _copied(place, beside)
        artifacts.write_parquet(beside / "pairs.parquet", chosen)
        artifacts.write_parquet(beside / "branches.parquet", points)
        artifacts.write_json(beside / artifacts.MANIFEST, manifest)


def _copied(place: Path, beside: Path) -> None:
    """Everything else in a folder, as it is."""
    for path in place.iterdir():
        if path.is_file():
            (beside / path.name).write_bytes(path.read_bytes())


def _pairs(place: Path) -> tuple[pa.Table, pa.Table]:
    return pq.read_table(place / "pairs.parquet"), pq.read_table(place / "branches.parquet")


def _trees(place: Path, pattern: str) -> set[str]:
    """The trees that name the person."""
    tables = [pq.read_table(place / name) for name in ("trees.parquet", "nodes.parquet")]
    return {
        tree
        for table in tables
        for tree, named in zip(table["tree_id"].to_pylist(), _rows(table, pattern), strict=True)
        if named
    }


def _rows(table: pa.Table, pattern: str) -> np.ndarray:
    """Which rows of a table have the pattern in any text, however deep."""
    # Texts within lists are JSON then, which the pattern knows.
    texts = [f'"{f.name}"' if f.type == pa.string() else f'to_json("{f.name}")::VARCHAR' for f in table.schema]
    with warehouse.connect() as connection:
        connection.register("given", table.append_column("_row", pa.array(range(table.num_rows), pa.int64())))
        rows = connection.sql(
            f"SELECT regexp_matches(concat_ws(chr(10), {', '.join(texts)}), $pattern) AS named "
            "FROM given ORDER BY _row",
            params={"pattern": pattern},
        )
        return rows.to_arrow_table()["named"].to_numpy()


def _heard(record: Erasure, table: pa.Table) -> np.ndarray:
    """Which rows are outcomes of erased trajectories."""
    if "trajectory_id" not in table.column_names:
        return np.zeros(table.num_rows, bool)
    gone = set(Tombstones([record]).among(table)["trajectory_id"].to_pylist())
    return np.array([id in gone for id in table["trajectory_id"].to_pylist()], bool)


def _ids(decisions: Path) -> pa.Table:
    return pq.read_table(artifacts.source(decisions), columns=["trajectory_id", "detail"])


def _folders(home: Home, kind: str) -> list[Path]:
    return sorted(path.parent for path in (home.root / kind).glob(f"[!.]*/{artifacts.MANIFEST}"))


def _pages(home: Home) -> Iterator[Path]:
    """The pages of reports."""
    for suffix in ("json", "md"):
        yield from sorted(home.reports.glob(f"[!.]*/*.{suffix}"))


def _named(home: Home, path: Path) -> str:
    return str(path.relative_to(home.root))

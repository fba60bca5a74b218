"""A data folder with a person in all its places, and what can be told of it afterwards."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.capture import Recorder
from flywheel.capture.erasing.traces import Asked
from flywheel.corpus import store
from flywheel.corpus.decisions import decisions
from flywheel.corpus.manifest import manifest, versions
from flywheel.corpus.selection import selected
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.streaming import renderings
from flywheel.curate import fingerprint
from flywheel.curate.derived import bring
from flywheel.curate.spec import NearDuplicates
from flywheel.preferences.pairs import BRANCHES, PAIRS
from flywheel.release import history
from flywheel.rollout.storage import NODES, TREES
from flywheel.schema import OUTCOMES, TRAJECTORIES, Quarantined, outcomes_table, quarantine_table
from flywheel.settings import Home
from flywheel.wheel.forget import forget
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write
from flywheel_tests.corpus.traces import NAME, about

ASKED = Asked(subjects=(NAME,))
KEY = "v1-20261102T120000Z"


def fill(home: Home) -> None:
    """Episodes 3, 7 and 11 are hers, in three files; two corpora, a branch, policies that descend from each other."""
    for first in (0, 4, 8):
        episodes = [about(n) if n in (3, 7, 11) else trajectory(n) for n in range(first, first + 4)]
        write(home, episodes, [verdict(n, 1.0) for n in range(first, first + 4)])
    inputs = [
        Quarantined(workspace="support", source="a.jsonl", line=n, error="cut off", excerpt=text, arrived_at=MONDAY)
        for n, text in enumerate((f'{{"messages": "{NAME}', '{"messages": "Hel'), 1)
    ]
    warehouse.append(home.quarantine, quarantine_table(inputs))
    of = snapshot(home, "support", SPEC, MONDAY)
    write(home, outcomes=[verdict(7, 0.0, "reopened", TUESDAY)])
    snapshot(home, "support", SPEC, TUESDAY)
    branch(home, "support", "lenient", msgspec.structs.replace(SPEC, filter="reward >= 0"), ref=1)
    snapshot(home, "other", msgspec.structs.replace(SPEC, filter="n_steps < 3"), MONDAY)
    bring(home, "support", fingerprint.derivation(NearDuplicates()))
    conversations = partial(store.of_keys, home, of, columns=["content_digest", "steps", "tools"])
    renderings.bring(renderings.TEXTS.folder(home, "support"), renderings.TEXTS, selected(home, of), conversations)
    late = [verdict(n, 0.0, "reopened", WEDNESDAY) for n in (2, 3)]
    artifacts.write_parquet(home.forthcoming / f"{KEY}.parquet", outcomes_table(late))
    _policies(home)
    _trees(home)
    with closing(Recorder(home, "support", agent="bot", clock=lambda: WEDNESDAY)) as recorder:
        recorder.record([msgspec.structs.replace(about(20), arrived_at=WEDNESDAY), trajectory(21, WEDNESDAY)])


def _policies(home: Home) -> None:
    pairs = [{"path": str(home.pairs / KEY / "pairs.parquet"), "digest": "0"}]
    lineages: dict[str, dict[str, Any]] = {
        "sft-1": {"data": {"corpus": "support", "version": 1, "digest": "0"}, "base": {"model": "scratch"}},
        "dpo-1": {"pairs": pairs, "base": {"policy": "sft-1", "digest": "0", "model": "x"}},
        "sft-other": {"data": {"corpus": "elsewhere", "version": 1, "digest": "0"}, "base": {"model": "scratch"}},
    }
    for id, lineage in lineages.items():
        artifacts.write_json(home.policies / id / "lineage.json", lineage)
        artifacts.write_json(home.policies / id / artifacts.MANIFEST, {"id": id})
    with history.alone(home):
        event = history.Event(kind="promote", policy_id="dpo-1", digest="0", previous=None, report=None, at=TUESDAY)
        history.append(home, event)


def _trees(home: Home) -> None:
    """Two trees of the policy; in one of them it says the name, which a pair quotes, and a report too."""
    heads = [{"tree_id": id, "task_id": id, "actor": "sft-1"} for id in ("tree-a", "tree-b")]
    said = {"tree-a": f"Hello {NAME}", "tree-b": "Hello"}
    nodes = [{"tree_id": id, "node": 0, "step": text, "observations": "[]"} for id, text in said.items()]
    with artifacts.folder(home.trees / KEY) as folder:
        artifacts.write_parquet(folder / "trees.parquet", pa.Table.from_pylist(heads, schema=TREES))
        artifacts.write_parquet(folder / "nodes.parquet", pa.Table.from_pylist(nodes, schema=NODES))
        artifacts.write_json(folder / "stats.json", {"actor": "sft-1@0123"})
        artifacts.write_json(folder / artifacts.MANIFEST, {"digest": "0", "trees": 2, "nodes": 2})
    points = [
        {
            "pair_id": id,
            "tree_id": id,
            "prompt": text,
            "chosen": "a",
            "rejected": "b",
            "decision": "c",
            "reason": "kept",
        }
        for id, text in said.items()
    ]
    table = pa.Table.from_pylist(points, schema=BRANCHES)
    with artifacts.folder(home.pairs / KEY) as folder:
        artifacts.write_parquet(folder / "pairs.parquet", table.select(PAIRS.names))
        artifacts.write_parquet(folder / "branches.parquet", table.drop_columns(["prompt", "tools"]))
        counts = {"digest": "0", "pairs": 2, "branch_points": 2, "reasons": {"kept": 2}, "decisions": {"c": 2}}
        artifacts.write_json(folder / artifacts.MANIFEST, counts)
    artifacts.write_bytes(home.reports / "one" / "report.md", f"It said: Hello {NAME}, {NAME} and all.".encode())


def state(home: Home) -> dict[str, Any]:
    """All that must be the same whatever happened on the way."""
    told: dict[str, Any] = {
        "captures": sorted(warehouse.read(home.captures, TRAJECTORIES)["id"].to_pylist()),
        "ledger": sorted(warehouse.read(home.outcomes, OUTCOMES)["trajectory_id"].to_pylist()),
        "files": sorted(str(p.relative_to(home.root)) for p in _files(home)),
        "names": sorted(p.name for p in home.root.rglob("*") if p.suffix in (".tmp", ".old", ".new")),
    }
    for name in ("support", "other"):
        for version in versions(home, name):
            of = manifest(home, name, version)
            told[of.ref] = (of.branch, of.digest, of.decisions_digest, of.parents, decisions(home, of).num_rows)
    for path in sorted([*home.trees.rglob("*.parquet"), *home.pairs.rglob("*.parquet"), *home.forthcoming.glob("*")]):
        told[str(path.relative_to(home.root))] = pq.read_table(path).to_pylist()
    for path in sorted([*home.trees.rglob("manifest.json"), *home.pairs.rglob("manifest.json")]):
        told[str(path.relative_to(home.root))] = artifacts.read_json(path)
    for path in sorted(home.root.glob("*/*/erased.json")):
        told[str(path.relative_to(home.root))] = [{**one, "erasure": "", "at": ""} for one in artifacts.read_json(path)]
    for path in sorted(home.erasures.glob("*.json")):
        record = artifacts.read_json(path)
        kept = ("asked", "counts", "replaced", "versions", "marked", "cleared", "left", "content_digests", "subjects")
        told["record"] = {name: record[name] for name in kept}
    told["report"] = (home.reports / "one" / "report.md").read_text()
    return told


def _files(home: Home) -> list[Path]:
    return [p for root in (home.captures, home.outcomes, home.quarantine) for p in warehouse.files(root)]


def forgets(told: Connection, root: Path) -> None:
    """Forget the person in a data folder, in a process of its own; told is when it begins."""
    told.send("begins")
    forget(Home(root), ASKED, now=WEDNESDAY + timedelta(days=1))

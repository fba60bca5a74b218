"""Descent from erased rows: policies, trees and pairs found by their lineage, and marked beside their manifests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.capture.erasing.erasure import Affected, Erasure, Marked
from flywheel.preferences import storage
from flywheel.release import registry
from flywheel.settings import Home

FILE = "erased.json"

PLURAL = {"policy": "policies", "trees": "trees", "pairs": "pairs"}


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a mark says: which erasure, when, how many erased rows were trained on directly, and what it came of."""

    erasure: str
    at: datetime
    rows: int
    through: str

    def __str__(self) -> str:
        rows = f"{self.rows} rows" if self.rows else "rows"
        return f"came of {rows} erased since, on {self.at:%Y-%m-%d}, through {self.through} ({self.erasure})"


def trace(home: Home, versions: Iterable[Affected]) -> tuple[Marked, ...]:
    """All that came of the erased rows of versions, in the order in which it came of each other, then of name.

    A policy came of the version that it was trained on, of its base, of pairs or of the successful paths of trees;
    trees of the policy that was sampled in them; pairs of their trees.
    """
    trained = {affected.ref: affected.trained for affected in versions if affected.trained}
    lineages = {
        path.parent.name: artifacts.read_json(path) for path in sorted(home.policies.glob("[!.]*/lineage.json"))
    }
    actors = {path.parent.name: _actor(path) for path in sorted(home.trees.glob("[!.]*/stats.json"))}
    pairs = sorted(path.parent.name for path in home.pairs.glob(f"[!.]*/{artifacts.MANIFEST}"))
    event = registry.champion(home)
    found: dict[tuple[str, str], Marked] = {}
    grown = True
    while grown:
        before = len(found)
        for id, lineage in lineages.items():
            through = next((ref for ref in _made_of(home, lineage) if ref in trained or _known(ref) in found), None)
            if through and ("policy", id) not in found:
                serves = event is not None and event.policy_id == id
                rows = trained.get(through, 0)
                found["policy", id] = Marked(kind="policy", id=id, rows=rows, through=through, serves=serves)
        for key, actor in actors.items():
            if ("policy", actor) in found and ("trees", key) not in found:
                found["trees", key] = Marked(kind="trees", id=key, rows=0, through=f"policy {actor}")
        for key in pairs:
            of = storage.trees_of(home, key)
            if ("trees", of) in found and ("pairs", key) not in found:
                found["pairs", key] = Marked(kind="pairs", id=key, rows=0, through=f"trees {of}")
        grown = len(found) > before
    return tuple(found.values())


def mark(home: Home, record: Erasure, marked: Iterable[Marked]) -> None:
    """Write the marks of an erasure beside the manifests; those of other erasures stay."""
    for one in marked:
        folder = home.root / PLURAL[one.kind] / one.id
        others = [known for known in marks(folder) if known.erasure != record.id]
        made = Mark(erasure=record.id, at=record.begun_at, rows=one.rows, through=one.through)
        artifacts.write_json(folder / FILE, sorted([*others, made], key=lambda known: known.erasure))


def marks(folder: Path) -> list[Mark]:
    """The marks of a policy, of trees or of pairs, oldest first."""
    path = folder / FILE
    return msgspec.json.decode(path.read_bytes(), type=list[Mark]) if path.exists() else []


def _made_of(home: Home, lineage: dict[str, Any]) -> list[str]:
    """What a policy was made of, as `NAME@vN`, `policy ID`, `pairs KEY` or `trees KEY`."""
    data, base = lineage.get("data", {}), lineage.get("base", {})
    found = [f"{data['corpus']}@v{data['version']}"] if "corpus" in data else []
    if "policy" in base:
        found.append(f"policy {base['policy']}")
    for part in lineage.get("pairs", ()):
        path = Path(part["path"])
        if path.parent.parent == home.pairs:
            found.append(f"pairs {path.parent.name}")
    path = Path(data.get("trajectories", ""))
    if path.parent == home.trees:
        found.append(f"trees {path.name.removesuffix('.successes.parquet')}")
    return found


def _known(ref: str) -> tuple[str, str]:
    kind, _, id = ref.partition(" ")
    return kind, id


def _actor(stats: Path) -> str:
    """The policy that was sampled in trees."""
    return str(artifacts.read_json(stats).get("actor", "")).partition("@")[0]

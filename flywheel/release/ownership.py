"""Whose a thing is: the workspaces whose captures a corpus, a policy, trees, pairs or a report came of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.corpus.catalog import Seen
from flywheel.corpus.manifest import names
from flywheel.preferences import storage
from flywheel.release import history
from flywheel.settings import Home, checked_name

Owners = frozenset[str]

NOBODY: Owners = frozenset()
# A folder in the data folder that is not of its making.
_FOREIGN = ("sample",)
# Of what is not there, or does not say what it came of: nobody may use it but who may use all.
UNKNOWN: Owners = frozenset({"?"})


def corpus(home: Home, name: str) -> Owners:
    """The workspaces of all its versions, those of other releases too; what is made next may have others."""
    manifests = home.corpora / checked_name(name, "corpus") / "versions"
    found = [_field(path, "recipe", "workspace") for path in manifests.glob("v*.json")]
    return frozenset(str(of or "?") for of in found) or UNKNOWN


def policy(home: Home, name: str) -> Owners:
    """Of a policy by id or by its folder: the workspaces of its corpus, of its base, and of its pairs and trees.

    A model that was made elsewhere is nobody's.
    """
    return _policy(home, name, frozenset())


def trees(home: Home, key: str) -> Owners:
    """The workspaces of the policy that was sampled in them."""
    return _trees(home, key, frozenset())


def pairs(home: Home, key: str) -> Owners:
    """The workspaces of the trees that they were made of."""
    return _pairs(home, key, frozenset())


def file(home: Home, path: Path) -> Owners:
    """Of a file or a folder: those of what it is a part of in the data folder; what lies elsewhere is nobody's."""
    return _file(home, path, frozenset())


def report(home: Home, id: str) -> Owners:
    """The workspaces of the policies that it judged and of the corpora that it names."""
    path = home.reports / id / "report.json"
    if not path.is_file():
        return UNKNOWN
    told = artifacts.read_json(path)
    found = [policy(home, one["policy_id"]) for one in told.get("entrants", ()) if one.get("policy_id")]
    name = str(told.get("corpus", "")).partition("@")[0]
    return NOBODY.union(*found, corpus(home, name) if name else NOBODY)


def event(home: Home, of: history.Event) -> Owners:
    """The workspaces of the policies that a release was about."""
    return NOBODY.union(*(policy(home, id) for id in (of.policy_id, of.previous) if id))


def seen(home: Home, workspaces: tuple[str, ...], *, cycle: bool = False) -> Seen:
    """All that came of these workspaces alone, or of nobody's; `cycle`: with how long the stages took."""

    def mine(there: Iterable[str], owners: Callable[[Home, str], Owners]) -> tuple[str, ...]:
        return tuple(name for name in sorted(there) if owners(home, name) <= set(workspaces))

    def folders(place: Path) -> list[str]:
        return [path.name for path in place.glob("[!.]*") if path.is_dir()]

    return Seen(
        workspaces=workspaces,
        corpora=mine(names(home), corpus),
        trees=mine(folders(home.trees), trees),
        pairs=mine(folders(home.pairs), pairs),
        policies=mine(folders(home.policies), policy),
        reports=mine(folders(home.reports), report),
        cycle=cycle,
    )


# What a policy came of is a walk: `seen` are those that it came through.


def _policy(home: Home, name: str, seen: frozenset[str]) -> Owners:
    folder = home.policies / name
    if "/" in name or not folder.is_dir():
        # An id that is not there may have been somebody's; a model by path or by its public name is not.
        return _file(home, Path(name), seen) if "/" in name or Path(name).exists() else UNKNOWN
    lineage = folder / "lineage.json"
    if name in seen or not lineage.is_file():
        return UNKNOWN
    told, seen = artifacts.read_json(lineage), seen | {name}
    data, base = told.get("data", {}), told.get("base", {})
    found = [corpus(home, data["corpus"])] if "corpus" in data else []
    base_name = base.get("policy") or base.get("model", "scratch")
    if base_name != "scratch":
        found.append(_policy(home, base_name, seen))
    files = [Path(part["path"]) for part in told.get("pairs", ())]
    files += [Path(data["trajectories"])] if "trajectories" in data else []
    # What is gone, or was moved, does not say any more what it came of.
    found += [_file(home, path, seen) if path.exists() else UNKNOWN for path in files]
    return NOBODY.union(*found)


def _trees(home: Home, key: str, seen: frozenset[str]) -> Owners:
    actor = _field(home.trees / key / "stats.json", "actor")
    return _policy(home, str(actor).rpartition("@")[0] or str(actor), seen) if actor else UNKNOWN


def _pairs(home: Home, key: str, seen: frozenset[str]) -> Owners:
    return _trees(home, storage.trees_of(home, key), seen)


def _file(home: Home, path: Path, seen: frozenset[str]) -> Owners:
    path = path.expanduser().resolve()

    def below(place: Path) -> str | None:
        return path.relative_to(place).parts[0] if place in path.parents else None

    for place, owners in ((home.policies, _policy), (home.trees, _trees), (home.pairs, _pairs)):
        if name := below(place):
            return owners(home, name.removesuffix(".successes.parquet"), seen)
    if name := below(home.corpora):
        return corpus(home, name)
    for place in (home.captures, home.outcomes, home.quarantine, home.derived, home.mapped, home.journals):
        if name := below(place):
            return frozenset({name.removeprefix("workspace=")})
    if path == home.root or path in home.root.parents:
        return UNKNOWN  # a folder that has all of it
    name = below(home.root)
    # What lies loose in the data folder somebody put there; its folders are its own.
    return NOBODY if name is None or name in _FOREIGN or (path.parent == home.root and path.is_file()) else UNKNOWN


def _field(path: Path, *names: str) -> Any:
    """A field of a JSON file; None where there is no such file or field."""
    try:
        value = artifacts.read_json(path)
    except (OSError, msgspec.DecodeError):
        return None
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value

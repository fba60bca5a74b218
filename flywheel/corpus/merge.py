"""Merging: what a branch asks for becomes what another branch asks for, each field by three versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from flywheel.corpus.gc import sweep
from flywheel.corpus.manifest import Manifest, branches, load, locked, manifest
from flywheel.corpus.reference import MAIN
from flywheel.corpus.snapshot import Snapshot, decided_files, make, next_number, read_by
from flywheel.curate.spec import spec_of
from flywheel.schema import FlywheelError, canonical_json
from flywheel.settings import Home

Prefer = Literal["theirs", "ours"]


def merge(home: Home, name: str, source: int | str, into: str = MAIN, prefer: Prefer | None = None) -> Snapshot:
    """A new version on branch `into` that asks for what `source` asks for, where that was changed on its side.

    A corpus is a function of its spec and as-of time, so these are merged, not rows: against the nearest version that
    both come from, a field of the spec that one side changed is taken from that side. The as-of time is the later one.
    Every row then follows, with its reason. Where nothing is new, the newest version of `into` is found.

    Raises:
        FlywheelError: when both sides changed a field otherwise and `prefer` does not decide, or a name is unknown.
    """
    with locked(home, name):
        sweep(home, name)
        theirs = manifest(home, name, source)
        heads = branches(home, name)
        if into not in heads:
            raise FlywheelError(f"corpus {name!r} has no branch {into!r} (there are: {', '.join(heads)})")
        ours = load(home, name, heads[into])
        base = _common(home, ours, theirs)
        recipe = _merged(base, ours, theirs, prefer)
        spec, as_of = spec_of(recipe), max(ours.as_of, theirs.as_of)
        if (spec.recipe_hash, as_of) == (ours.recipe_hash, ours.as_of):
            return Snapshot(**msgspec.structs.asdict(ours), created=False)
        parents = (ours.version, theirs.version)
        number = next_number(home, name)
        inputs = read_by(home, spec.workspace, as_of)
        files = decided_files(home, name, number, spec, as_of, ours)
        made = make(home, name, number, into, spec, as_of, inputs, files, parents)
        return Snapshot(**msgspec.structs.asdict(made), created=True)


def _common(home: Home, a: Manifest, b: Manifest) -> Manifest:
    """The newest version that both come from."""
    both = _ancestors(home, a) & _ancestors(home, b)
    if not both:
        raise FlywheelError(f"{a.ref} and {b.ref} come from no common version; take one of their specs by hand")
    return load(home, a.name, max(both))


def _ancestors(home: Home, of: Manifest) -> set[int]:
    found: set[int] = set()
    todo = [of.version]
    while todo:
        version = todo.pop()
        if version not in found:
            found.add(version)
            try:
                todo += load(home, of.name, version).parents
            except FileNotFoundError:  # on a branch that was removed
                found.discard(version)
    return found


def _merged(base: Manifest, ours: Manifest, theirs: Manifest, prefer: Prefer | None) -> dict[str, Any]:
    recipe, conflicts = {}, []
    for field in ours.recipe:
        was, mine, other = (canonical_json(of.recipe.get(field)) for of in (base, ours, theirs))
        if other in (was, mine):
            side = ours
        elif mine == was or prefer == "theirs":
            side = theirs
        elif prefer == "ours":
            side = ours
        else:
            conflicts.append(f"{field}: {mine} on {ours.branch}, {other} on {theirs.branch} (was {was})")
            continue
        recipe[field] = side.recipe.get(field)
    if conflicts:
        raise FlywheelError(
            f"{ours.ref} and {theirs.ref} both changed {'; '.join(conflicts)}. Choose with --prefer ours or theirs"
        )
    return recipe

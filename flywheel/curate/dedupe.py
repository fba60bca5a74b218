"""Duplicates: of rows that repeat each other the one that ranks best is kept, whatever the order they came in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from flywheel.curate.near import near
from flywheel.curate.prefix import prefixes
from flywheel.curate.spec import NearDuplicates, Spec
from flywheel.curate.words import Numbers, bounds_of

DUPLICATES = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("reason", pa.string()),
        ("duplicate_of", pa.string()),
        ("similarity", pa.float64()),
    ]
)

# The runs of words (`fingerprint.runs`) of the rows of a table of id and content_digest, in its order.
Runs = Callable[[pa.Table], pa.Array | pa.ChunkedArray]

# What is dropped and what stands in its place, as places among rows in the order of ranks; how near they are.
_Found = tuple[Numbers, Numbers, Numbers | None]


def duplicates(candidates: pa.Table, runs: Runs, spec: Spec) -> pa.Table:
    """The rows to drop, as rows of `DUPLICATES` ordered by trajectory_id.

    `candidates` has trajectory_id, content_digest, task_id and rank (distinct numbers; the least is best) and, for
    what the spec asks, chain and effects (of the prepared rows), buckets and n_runs (of the fingerprints). `runs` is
    asked only for rows that may be near duplicates, as many at a time as `jaccard.MOST_RUNS` allows.

    These are looked for, in this order, each among what the former left:

    - exact duplicate: content_digest is equal;
    - prefix duplicate: one conversation is the beginning of the other (`prefix.prefixes`);
    - same effects: task_id and effects are equal (null: nothing was done);
    - near duplicate: the texts share most runs of words (`near.near`); `similarity` says how many.

    `duplicate_of` is the best of the rows that stood against that reason. A later reason may drop it in turn:
    the view `clusters` follows to what is kept in the end. The order of the rows given leaves no trace.
    """
    ids = candidates["trajectory_id"]
    left = np.argsort(candidates["rank"].to_numpy())
    found = [DUPLICATES.empty_table()]
    for reason, search in _searches(candidates, runs, spec):
        places, originals, similarity = search(left)
        found.append(
            pa.table(
                {
                    "trajectory_id": ids.take(pa.array(left[places])),
                    "reason": pa.array([reason], pa.string()).take(pa.array(np.zeros(len(places), np.int64))),
                    "duplicate_of": ids.take(pa.array(left[originals])),
                    "similarity": pa.nulls(len(places), pa.float64()) if similarity is None else pa.array(similarity),
                }
            )
        )
        left = np.delete(left, places)
    return pa.concat_tables(found).sort_by("trajectory_id")


def _searches(candidates: pa.Table, runs: Runs, spec: Spec) -> list[tuple[str, Callable[[Numbers], _Found]]]:
    """The reasons that the spec asks for, each with what finds it among candidates at given places, the best first."""
    near = spec.near_duplicates
    searches: list[tuple[str, Callable[[Numbers], _Found]]] = [
        ("exact duplicate", lambda left: _equal(_codes(candidates["content_digest"])[left]))
    ]
    if spec.prefix_duplicates:
        searches.append(("prefix duplicate", lambda left: _prefix(candidates, left)))
    if spec.same_effects:
        searches.append(("same effects", lambda left: _same_effects(candidates, left)))
    if near is not None:
        searches.append(("near duplicate", lambda left: _near(candidates, left, runs, near)))
    return searches


def _prefix(candidates: pa.Table, left: Numbers) -> _Found:
    chains = candidates["chain"].combine_chunks()
    bounds = bounds_of(chains)
    return *prefixes(chains.flatten().to_numpy(), bounds[left], np.diff(bounds)[left]), None


def _same_effects(candidates: pa.Table, left: Numbers) -> _Found:
    acted = np.flatnonzero(candidates["effects"].is_valid().to_numpy()[left])
    some = left[acted]
    effects = _codes(candidates["effects"].fill_null(""))
    both = _codes(candidates["task_id"])[some] * (effects.max(initial=0) + 1) + effects[some]
    places, originals, _ = _equal(np.unique(both, return_inverse=True)[1])
    return acted[places], acted[originals], None


def _near(candidates: pa.Table, left: Numbers, runs: Runs, settings: NearDuplicates) -> _Found:
    n_runs = candidates["n_runs"].to_numpy()
    some = n_runs > 0
    given = candidates["buckets"].combine_chunks().flatten().to_numpy().reshape(-1, settings.signature[0])
    # A text without words has no buckets. Band by band is how they are read.
    buckets = np.zeros((given.shape[1], len(left)), np.int64)
    buckets[:, some[left]] = given[(np.cumsum(some) - 1)[left[some[left]]]].T
    scopes = _codes(candidates["task_id"])[left] if settings.within == "task" else np.zeros(len(left), np.int64)
    keys = candidates.select(["trajectory_id", "content_digest"]).rename_columns(["id", "content_digest"])

    def fetch(places: Numbers) -> tuple[Numbers, Numbers]:
        found = runs(keys.take(pa.array(left[places])))
        lists = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        return lists.flatten().to_numpy(), bounds_of(lists)

    return near(buckets.T, scopes, n_runs[left], settings.threshold, fetch)


def _equal(codes: Numbers) -> _Found:
    """What is equal to an earlier row."""
    first = np.zeros(codes.max(initial=-1) + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    places = np.flatnonzero(first[codes] < np.arange(len(codes)))
    return places, first[codes][places], None


def _codes(column: pa.ChunkedArray) -> Numbers:
    """A small number for each distinct value of a column without nulls."""
    return column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)

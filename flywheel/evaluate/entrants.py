"""Entrants: who is judged, and the play of all of them on one suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from flywheel.environments.protocol import Actor
from flywheel.evaluate.results import RESULTS
from flywheel.evaluate.suite import Lookup, Suite, environment_of, run

Role = Literal["policy", "control", "baseline"]


class Entrant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is judged, `name` being the results' column `policy`.

    `policy_id` and `digest` lead to the policy's folder; both are empty for a scripted agent.
    """

    name: str
    role: Role = "policy"
    policy_id: str = ""
    digest: str = ""


class Player(msgspec.Struct, frozen=True, kw_only=True):
    """An entrant with the actor that plays for it, named as the entrant is; `temperatures` where not the suite's."""

    entrant: Entrant
    actor: Actor
    temperatures: tuple[float, ...] | None = None


def cells(suite: Suite, players: Sequence[Player]) -> list[tuple[Player, float]]:
    """Each player at each of its temperatures, in order."""
    return [(p, t) for p in players for t in (suite.temperatures if p.temperatures is None else p.temperatures)]


def play_all(
    suite: Suite,
    players: Sequence[Player],
    *,
    cache: Path | None = None,
    lookup: Lookup = environment_of,
    progress: Callable[[int], None] | None = None,
) -> pa.Table:
    """The results of all players at all their temperatures; killed and run again with a cache, it goes on.

    `progress` is told how many tasks have ended, of `len(cells(...)) * suite.size`.
    """
    tables = [RESULTS.empty_table()]
    for index, (player, temperature) in enumerate(cells(suite, players)):
        before = index * suite.size
        tables.append(
            run(
                suite,
                player.actor,
                temperature=temperature,
                digest=player.entrant.digest,
                cache=cache,
                lookup=lookup,
                progress=None if progress is None else lambda n, before=before: progress(before + n),
            )
        )
    return pa.concat_tables(tables)

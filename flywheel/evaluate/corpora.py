"""Corpora compared by what they teach: one recipe trained on two versions, judged on the same held-out tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.evaluate.comparison import Cell, Comparison, Rate, compare, rates
from flywheel.evaluate.entrants import play_all
from flywheel.evaluate.policy import find
from flywheel.evaluate.results import RESULTS
from flywheel.evaluate.suite import Lookup, Suite, environment_of
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.train.config import SFTRun
from flywheel.train.run import run

Told = Callable[[str, int, int], None]


class Taught(msgspec.Struct, frozen=True, kw_only=True):
    """What two versions taught by one recipe, with one training seed.

    `comparison` is the first version's policy minus the second's, both greedy, over the same tasks.
    """

    seed: int
    policies: tuple[str, str]
    success: tuple[Rate, Rate]
    comparison: Comparison


def teach(
    home: Home,
    first: str,
    second: str,
    recipe: SFTRun,
    suite: Suite,
    seeds: Sequence[int] = (0,),
    *,
    lookup: Lookup = environment_of,
    told: Told | None = None,
) -> list[Taught]:
    """Train `recipe` on each version (`NAME@vN`) with each seed, and compare the two on the suite.

    Equal requests find the policies that were trained and the tasks that were played before: killed and called again,
    it goes on. An interval covers the chance of the tasks; what the seed of training does shows between the seeds.
    `told` hears (what, done, of) as it goes.

    Raises:
        FlywheelError: when the versions are the same, or one holds nothing to train on.
    """
    if first == second:
        raise FlywheelError(f"{first} cannot be compared with itself; name two versions")
    if not suite.size:
        raise FlywheelError("a suite without tasks tells nothing; give it some")
    return [_taught(home, (first, second), recipe, suite, seed, lookup, told) for seed in seeds]


def _taught(
    home: Home, versions: tuple[str, str], recipe: SFTRun, suite: Suite, seed: int, lookup: Lookup, told: Told | None
) -> Taught:
    greedy = msgspec.structs.replace(suite, temperatures=(0.0,))
    played, policies = [RESULTS.empty_table()], []
    for version in versions:

        def trained(row: dict[str, Any], version: str = version) -> None:
            if told:
                told(f"training on {version}, seed {seed}", row["step"], row["steps"])

        def ended(done: int, version: str = version) -> None:
            if told:
                told(f"playing {version}, seed {seed}", done, suite.size)

        policy = run(msgspec.structs.replace(recipe, data=version, seed=seed), home, trained)
        player = find(home, policy.id).player(version)
        played.append(play_all(greedy, [player], cache=home.evaluations, lookup=lookup, progress=ended))
        policies.append(policy.id)
    results = pa.concat_tables(played)
    one, two = rates(results)
    return Taught(
        seed=seed,
        policies=(policies[0], policies[1]),
        success=(one, two),
        comparison=compare(results, Cell(versions[0]), Cell(versions[1])),
    )

"""What a snapshot asks for: a workspace, a filter, a reward policy, and what counts as the same thing twice."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import msgspec

from flywheel.curate.split import PERCENT, SALT
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import FlywheelError, canonical_json

# Raised whenever the same spec would give other rows: new rules, another text for fingerprints, another hash.
RECIPE_VERSION = 2

# The share of pairs exactly at the threshold that bands and rows are chosen to find, and the most bands to do it with.
RECALL = 0.98
MOST_BANDS = 24


class NearDuplicates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When two texts are nearly the same: a Jaccard similarity of at least `threshold` over runs of `shingle` words.

    A run of words spans the names and numbers in a text, so two episodes of one template about other things
    share few of them: each name that differs costs up to `shingle` runs. `within` compares every two
    trajectories of a corpus, or those of one task alone.

    MinHash signatures in `bands` of `rows` find the pairs to compare (a pair of similarity s with chance
    1 - (1 - s^rows)^bands); each is then compared exactly, so no pair below the threshold is ever dropped. Without
    them the signature follows from the threshold: as many rows as `MOST_BANDS` bands allow, with a chance of
    `RECALL` at the threshold itself (22 bands of 17 at .9, 22 of 5 at .7).
    Broder 1997, "On the resemblance and containment of documents".
    """

    threshold: float = 0.9
    shingle: int = 5
    within: Literal["corpus", "task"] = "corpus"
    bands: int | None = None
    rows: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        least = min(given for given in (self.shingle, self.bands, self.rows) if given is not None)
        if not 0 < self.threshold <= 1 or least < 1:
            raise FlywheelError(
                "near duplicates need a threshold above 0 and at most 1, and a shingle, bands and rows of 1 or more"
            )
        if (self.bands is None) != (self.rows is None):
            raise FlywheelError(
                "bands and rows belong together: give both, or neither to have them follow the threshold"
            )

    @property
    def signature(self) -> tuple[int, int]:
        """The bands, and the rows of each."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return max(_signatures(self.threshold), key=lambda signature: signature[1])


def _signatures(threshold: float) -> list[tuple[int, int]]:
    """The signatures of at most `MOST_BANDS` that find pairs at the threshold as asked, with the fewest bands each."""
    found = []
    for rows in range(1, MOST_BANDS + 1):
        missed = 1 - threshold**rows
        bands = 1 if missed == 0 else math.ceil(math.log(1 - RECALL) / math.log(missed))
        if bands <= MOST_BANDS:
            found.append((bands, rows))
    return found or [(MOST_BANDS, 1)]


class Caps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most training rows that are kept of each task, each source, and each version of an agent; None is no cap."""

    per_task: int | None = None
    per_source: int | None = None
    per_agent_version: int | None = None

    def __post_init__(self) -> None:
        if any(cap is not None and cap < 1 for cap in (self.per_task, self.per_source, self.per_agent_version)):
            raise FlywheelError("a cap keeps 1 row or more; to keep all of them leave it out")


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot's demands; with an as-of time they decide every row.

    `filter` is a SQL expression over the columns that `decide.FILTER_COLUMNS` lists, and picks training rows
    alone: held-out rows are kept whatever their reward. Rows of equal content are always duplicates; each other
    kind (see `dedupe.duplicates`) is looked for unless it is switched off: `prefix_duplicates`, `same_effects`, and
    `near_duplicates` by None.
    """

    workspace: str
    filter: str = "success"
    reward_policy: RewardPolicy = RewardPolicy()
    prefix_duplicates: bool = True
    same_effects: bool = True
    near_duplicates: NearDuplicates | None = NearDuplicates()
    caps: Caps = Caps()
    holdout_percent: int = PERCENT
    holdout_salt: str = SALT

    def __post_init__(self) -> None:
        if not 0 <= self.holdout_percent <= 100:
            raise FlywheelError(f"holdout_percent is {self.holdout_percent}; write 0 to 100")

    def recipe(self) -> dict[str, Any]:
        """The spec and the version of the rules that carry it out, as plain values."""
        return {**msgspec.to_builtins(self), "recipe_version": RECIPE_VERSION}

    @property
    def recipe_hash(self) -> str:
        """SHA-256 of the recipe."""
        return hashlib.sha256(canonical_json(self.recipe()).encode()).hexdigest()


def spec_of(recipe: dict[str, Any]) -> Spec:
    """The spec that a recipe was made of.

    Raises:
        FlywheelError: when these rules are not the ones that made it.
    """
    if recipe.get("recipe_version") != RECIPE_VERSION:
        raise FlywheelError(
            f"this recipe is of version {recipe.get('recipe_version')} and these rules are version {RECIPE_VERSION}; "
            "rebuild it with the release that made it"
        )
    return msgspec.convert(recipe, Spec)

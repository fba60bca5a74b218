"""What a snapshot asks for: a workspace, a filter, a reward policy, and what counts as the same thing twice."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from flywheel.curate.split import PERCENT, SALT
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import FlywheelError, canonical_json

# Raised whenever the same spec would give other rows: new rules, another text for fingerprints, another hash.
RECIPE_VERSION = 1


class NearDuplicates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When two texts are nearly the same: a Jaccard similarity of at least `threshold` over runs of `shingle` words.

    A run of words spans the names and numbers in a text, so two episodes of one template about other things
    share few of them: each name that differs costs up to `shingle` runs. `within` compares every two
    trajectories of a corpus, or those of one task alone.

    MinHash signatures in `bands` of `rows` find the pairs to compare (a pair of similarity s with chance
    1 - (1 - s^rows)^bands: .98 at .9 and .03 at .6); each is then compared exactly.
    Broder 1997, "On the resemblance and containment of documents".
    """

    threshold: float = 0.9
    shingle: int = 5
    within: Literal["corpus", "task"] = "corpus"
    bands: int = 12
    rows: int = 12
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or min(self.shingle, self.bands, self.rows) < 1:
            raise FlywheelError(
                "near duplicates need a threshold above 0 and at most 1, and a shingle, bands and rows of 1 or more"
            )


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot's demands; with an as-of time they decide every row.

    `filter` is a SQL expression over the columns that `decide.FILTER_COLUMNS` lists, and picks training rows
    alone: held-out rows are kept whatever their reward. `near_duplicates` None looks for exact ones only.
    """

    workspace: str
    filter: str = "success"
    reward_policy: RewardPolicy = RewardPolicy()
    near_duplicates: NearDuplicates | None = NearDuplicates()
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

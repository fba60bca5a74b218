"""Specs and the recipes they make."""

import msgspec
import pytest

from flywheel.curate.spec import RECIPE_VERSION, NearDuplicates, Spec, spec_of
from flywheel.outcomes.policy import checked
from flywheel.schema import FlywheelError


def test_a_recipe_goes_through_json_and_back_to_its_spec():
    spec = Spec(workspace="w", filter="reward > 0", reward_policy=checked("reopened"), near_duplicates=None)
    recipe = msgspec.json.decode(msgspec.json.encode(spec.recipe()))
    assert spec_of(recipe) == spec
    assert spec_of(recipe).recipe_hash == spec.recipe_hash


def test_another_demand_is_another_recipe():
    hashes = {
        Spec(workspace="w").recipe_hash,
        Spec(workspace="v").recipe_hash,
        Spec(workspace="w", filter="reward > 0").recipe_hash,
        Spec(workspace="w", reward_policy=checked()).recipe_hash,
        Spec(workspace="w", near_duplicates=NearDuplicates(threshold=0.8)).recipe_hash,
        Spec(workspace="w", holdout_salt="other").recipe_hash,
    }
    assert len(hashes) == 6


def test_what_other_rules_made_is_not_rebuilt_by_these():
    recipe = Spec(workspace="w").recipe() | {"recipe_version": RECIPE_VERSION + 1}
    with pytest.raises(FlywheelError, match="rebuild it with the release that made it"):
        spec_of(recipe)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"shingle": 0}, {"bands": 0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(FlywheelError):
        NearDuplicates(**wrong)

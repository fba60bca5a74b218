"""Specs and the recipes they make."""

import msgspec
import pytest

from flywheel.curate.spec import RECIPE_VERSION, Caps, NearDuplicates, Spec, spec_of
from flywheel.outcomes.policy import checked
from flywheel.schema import FlywheelError


def test_a_recipe_goes_through_json_and_back_to_its_spec():
    spec = Spec(
        workspace="w",
        filter="reward > 0",
        reward_policy=checked("reopened"),
        near_duplicates=None,
        caps=Caps(per_task=3),
    )
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
        Spec(workspace="w", same_effects=False).recipe_hash,
        Spec(workspace="w", prefix_duplicates=False).recipe_hash,
        Spec(workspace="w", caps=Caps(per_source=1)).recipe_hash,
    }
    assert len(hashes) == 9


def test_what_other_rules_made_is_not_rebuilt_by_these():
    recipe = Spec(workspace="w").recipe() | {"recipe_version": RECIPE_VERSION + 1}
    with pytest.raises(FlywheelError, match="rebuild it with the release that made it"):
        spec_of(recipe)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.1}, {"shingle": 0}, {"bands": 0}, {"bands": 9}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(FlywheelError):
        NearDuplicates(**wrong)


def test_the_signature_follows_from_the_threshold_unless_it_is_given():
    assert NearDuplicates().signature == NearDuplicates(threshold=0.9).signature == (22, 17)
    assert NearDuplicates(threshold=0.7).signature == (22, 5)
    assert NearDuplicates(bands=3, rows=4).signature == (3, 4)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_found(threshold):
    bands, rows = NearDuplicates(threshold=threshold).signature
    assert 1 - (1 - threshold**rows) ** bands >= 0.98

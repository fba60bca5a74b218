"""What reward policies may say."""

import math

import msgspec
import pytest

from flywheel.outcomes.policy import RewardPolicy, Signal, checked, load, waiting
from flywheel.schema import FlywheelError


def test_the_hash_is_of_all_that_a_policy_says():
    assert RewardPolicy().hash == RewardPolicy().hash
    assert RewardPolicy().hash != RewardPolicy(success_at=0.5).hash
    assert checked("reopened").hash != checked("reopened", wait_hours=24).hash


def test_a_check_at_once_and_a_veto_later():
    assert checked("reopened", "reverted").signals == (
        Signal(name="checker", required=True, wait_hours=0, silence=None),
        Signal(name="reopened", required=False, wait_hours=48, silence=1.0),
        Signal(name="reverted", required=False, wait_hours=48, silence=1.0),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"signals": ()},
        {"signals": (Signal(name="a"), Signal(name="a"))},
        {"signals": (Signal(name="a", wait_hours=-1),)},
        {"signals": (Signal(name="a", weight=0),)},
        {"signals": (Signal(name="a", silence=math.nan),)},
        {"signals": (Signal(name="a", wait_by_task_type={"code": -1.0}),)},
        {"success_at": math.inf},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(FlywheelError):
        RewardPolicy(**wrong)


def test_policies_are_read_from_files(tmp_path):
    (tmp_path / "p.toml").write_text(
        'name = "stood"\nsuccess_at = 0.5\n[[signals]]\nname = "checker"\n[[signals]]\nname = "kept"\nsilence = 1.0\n'
    )
    read = load(tmp_path / "p.toml")
    assert (read.name, read.success_at, [s.name for s in read.signals]) == ("stood", 0.5, ["checker", "kept"])
    (tmp_path / "p.json").write_text('{"signal": []}')
    with pytest.raises(FlywheelError, match=r"p\.json is no reward policy.*signals"):
        load(tmp_path / "p.json")


def test_a_policy_written_before_a_field_was_is_read_with_its_meaning():
    old = {"name": "reward", "version": 1, "signals": [{"name": "checker", "required": True, "wait_hours": 0.0}]}
    assert msgspec.convert(old, RewardPolicy) == RewardPolicy(signals=(Signal(name="checker"),))


def test_all_that_a_signal_may_say_in_a_file(tmp_path):
    (tmp_path / "p.toml").write_text(
        """
        [[signals]]
        name = "checker"
        tier = 1
        checker_versions = ["2", "3"]
        newest_version = true
        steps = "mean"
        wait_by_task_type = { code = 72.0 }
        """
    )
    assert load(tmp_path / "p.toml").signals == (
        Signal(
            name="checker",
            tier=1,
            checker_versions=("2", "3"),
            newest_version=True,
            steps="mean",
            wait_by_task_type={"code": 72.0},
        ),
    )


def test_one_wait_for_all():
    policy = RewardPolicy(signals=(Signal(name="a", wait_by_task_type={"code": 9.0}), Signal(name="b", wait_hours=2)))
    assert waiting(policy, 5.0).signals == (Signal(name="a", wait_hours=5.0), Signal(name="b", wait_hours=5.0))

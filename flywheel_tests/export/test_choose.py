"""Which rows go out: the sides of the split, conditions and statements; all that was looked at is accounted for."""

import pyarrow as pa
import pytest

from flywheel.capture import workspaces
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.split import split_of
from flywheel.export import choose
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, trajectory, verdict, write
from flywheel_tests.corpus.conftest import week as week

HELD = [f"t{n:03}" for n in range(12) if split_of(f"group-{n}") == "heldout"]
TRAIN = [f"t{n:03}" for n in range(12) if f"t{n:03}" not in HELD]
# 3 and 7 failed, and the filter of the corpus keeps what succeeded.
KEPT = [id for id in TRAIN if id not in ("t003", "t007")]


def ids(chosen: choose.Chosen) -> list[str]:
    return chosen.keys["trajectory_id"].to_pylist()


@pytest.fixture
def desk(week: Home) -> Home:
    snapshot(week, "desk", SPEC, MONDAY)
    return week


def test_a_version_gives_its_training_rows_in_order(desk: Home):
    of = manifest(desk, "desk")
    chosen = choose.of_version(desk, of)
    assert ids(chosen) == KEPT
    assert chosen.left_out == {"held out": of.rows - len(KEPT)}
    assert chosen.said["digest"] == of.digest and chosen.said["split"] == "train"
    assert ids(choose.of_version(desk, of, "heldout")) == HELD
    few = choose.of_version(desk, of, where="trajectory_id < 't004'")
    assert ids(few) == [id for id in KEPT if id < "t004"]
    assert few.keys.num_rows + sum(few.left_out.values()) == of.rows


def test_a_workspace_gives_what_no_version_holds_out(desk: Home):
    chosen = choose.of_workspace(desk, "support")
    assert ids(chosen) == TRAIN
    assert chosen.left_out == {"held out": len(HELD)}
    assert dict(zip(ids(chosen), chosen.keys["success"].to_pylist(), strict=True))["t000"] is True
    assert ids(choose.of_workspace(desk, "support", "heldout")) == HELD
    # Another version with another split holds out more.
    snapshot(desk, "other", _with_salt(), MONDAY)
    both = set(ids(choose.of_workspace(desk, "support")))
    assert both == {id for id in TRAIN if split_of(f"group-{int(id[1:])}", salt="other") == "train"}


def _with_salt():
    import msgspec

    return msgspec.structs.replace(SPEC, holdout_salt="other")


def test_where_there_is_no_version_the_default_split_holds(week: Home):
    assert ids(choose.of_workspace(week, "support")) == TRAIN


def test_a_statement_names_rows_and_every_name_is_accounted_for(desk: Home):
    named = choose.ids(desk, "SELECT trajectory_id, reward FROM joined WHERE reward < 1 ORDER BY ALL DESC")
    assert named == ["t007", "t003"]
    chosen = choose.of_workspace(desk, "support", ids=["t000", "t000", "nobody", *named, HELD[0]])
    assert ids(chosen) == sorted({"t000", "t003", "t007"} - set(HELD))
    assert sum(chosen.left_out.values()) + chosen.keys.num_rows == 6
    assert chosen.left_out["named twice"] == chosen.left_out["no trajectory of this workspace"] == 1
    with pytest.raises(FlywheelError, match="must give trajectory_id; it gives id, model"):
        choose.ids(desk, "SELECT id, model FROM trajectories")


def test_a_condition_looks_at_verdicts_too(desk: Home):
    failed = choose.of_workspace(desk, "support", where="reward < 0.5 AND n_steps > 1 AND state = 'resolved'")
    assert ids(failed) == [id for id in TRAIN if id in ("t003", "t007")]
    with pytest.raises(FlywheelError, match="nonsense"):
        choose.of_workspace(desk, "support", where="nonsense")


def test_another_workspace_s_rows_are_not_to_be_had(desk: Home):
    workspaces.create(desk, "other")
    chosen = choose.of_workspace(desk, "other", ids=["t000", "t001"])
    assert chosen.keys.num_rows == 0
    assert chosen.left_out == {"no trajectory of this workspace": 2}
    assert list(choose.graded(desk, chosen)) == []
    with pytest.raises(FlywheelError, match="there is no workspace 'nowhere'"):
        choose.of_workspace(desk, "nowhere")


def test_a_late_outcome_changes_a_workspace_and_no_version(desk: Home):
    of = manifest(desk, "desk")
    before = choose.of_version(desk, of)
    write(desk, [trajectory(20, TUESDAY)], [verdict(0, 0.0, "reopened", TUESDAY)])
    assert choose.of_version(desk, of).keys.equals(before.keys)
    now = choose.of_workspace(desk, "support")
    assert now.said["as_of"] == TUESDAY
    assert now.keys.filter(pa.compute.field("trajectory_id") == "t000")["reward"].to_pylist() == [0.0]


def test_pages_are_parts_in_order(desk: Home):
    chosen = choose.of_version(desk, manifest(desk, "desk"))
    first = chosen.page(None, 2)[0]
    assert ids(first) == KEPT[:2]
    assert ids(chosen.page(KEPT[1], 3)[0]) == KEPT[2:5]
    assert [given.trajectory.id for given in choose.graded(desk, chosen.page(KEPT[1], 3)[0])] == KEPT[2:5]
    [given] = choose.graded(desk, first.page(None, 1)[0])
    assert (given.trajectory, given.reward, given.success) == (trajectory(int(KEPT[0][1:])), 1.0, True)


def test_training_rows_of_a_held_version_go_out_raw_alone(desk: Home, monkeypatch: pytest.MonkeyPatch):
    def held(home: Home, of: object) -> None:
        raise FlywheelError("desk@v1 is held")

    monkeypatch.setattr(choose.graduation, "require_graduated", held)
    of = manifest(desk, "desk")
    with pytest.raises(FlywheelError, match="is held"):
        choose.of_version(desk, of)
    assert ids(choose.of_version(desk, of, trained=False)) == KEPT
    assert ids(choose.of_version(desk, of, "heldout")) == HELD

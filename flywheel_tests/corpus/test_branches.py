"""Branches, tags and merges: other selections of the same captures, named, compared and brought together."""

from datetime import timedelta

import msgspec
import pytest

from flywheel.corpus import gc, store
from flywheel.corpus.decisions import decisions
from flywheel.corpus.diff import diff
from flywheel.corpus.history import log
from flywheel.corpus.manifest import branches, folder, manifest, tag, tags, untag, versions
from flywheel.corpus.merge import merge
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.verify import verify
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write

SHORT = msgspec.structs.replace(SPEC, filter="n_steps < 3")
LENIENT = msgspec.structs.replace(
    SPEC, reward_policy=msgspec.structs.replace(SPEC.reward_policy, success_at=-1.0), filter="true"
)
NOW = TUESDAY + timedelta(hours=1)


@pytest.fixture
def one_version(week):
    snapshot(week, "support", SPEC, MONDAY)
    return week


def test_a_branch_is_another_selection_as_of_the_same_time(one_version):
    made = branch(one_version, "support", "lenient", LENIENT)
    assert (made.version, made.branch, made.parents, made.as_of) == (2, "lenient", (1,), MONDAY)
    assert made.rows == made.candidates == 12
    assert store.rows(one_version, "support", "lenient").num_rows == 12
    assert branches(one_version, "support") == {"main": 1, "lenient": 2}
    assert manifest(one_version, "support").version == 1
    assert diff(one_version, "support", "main", "lenient")["in"] > 0


def test_a_branch_copies_no_content(one_version):
    def written():
        return {path for path in one_version.derived.rglob("*.lance") if path.is_file()}

    before = written()
    branch(one_version, "support", "lenient", LENIENT)
    assert written() == before


def test_versions_are_numbered_over_all_branches_and_each_goes_on_by_itself(one_version):
    branch(one_version, "support", "short", SHORT)
    third = snapshot(one_version, "support", SPEC, TUESDAY)
    fourth = snapshot(one_version, "support", SHORT, TUESDAY, branch="short")
    assert [(m.version, m.branch, m.parents) for m in (third, fourth)] == [(3, "main", (1,)), (4, "short", (2,))]
    assert versions(one_version, "support", "short") == [2, 4]
    assert [m.version for m in log(one_version, "support", "main")] == [3, 1]
    assert manifest(one_version, "support", "short").version == 4


def test_begun_again_alike_it_is_found_and_otherwise_refused(one_version):
    first = branch(one_version, "support", "short", SHORT)
    again = branch(one_version, "support", "short", SHORT)
    assert (again.version, again.created) == (first.version, False)
    with pytest.raises(FlywheelError, match="has a branch 'short' already"):
        branch(one_version, "support", "short", LENIENT)


@pytest.mark.parametrize("name", ["v3", "7", "latest", "../x"])
def test_names_that_read_as_versions_are_refused(one_version, name):
    with pytest.raises(FlywheelError):
        branch(one_version, "support", name, SHORT)
    with pytest.raises(FlywheelError):
        tag(one_version, "support", name, None, NOW)


def test_unknown_branches_and_tags_say_what_there_is(one_version):
    tag(one_version, "support", "baseline", None, NOW)
    with pytest.raises(FlywheelError, match=r"no branch or tag 'nope' \(there are: main, baseline\)"):
        manifest(one_version, "support", "nope")
    with pytest.raises(FlywheelError, match="begin it with: flywheel corpus branch support nope"):
        snapshot(one_version, "support", SPEC, TUESDAY, branch="nope")


def test_a_tag_stays_where_it_is_until_it_is_moved(one_version):
    made = tag(one_version, "support", "baseline", 1, NOW)
    snapshot(one_version, "support", SPEC, TUESDAY)
    assert tag(one_version, "support", "baseline", 1, WEDNESDAY) == made
    with pytest.raises(FlywheelError, match="is on support@v1; move it with --force"):
        tag(one_version, "support", "baseline", 2, NOW)
    assert tag(one_version, "support", "baseline", 2, NOW, force=True).version == 2
    assert manifest(one_version, "support", "baseline").version == 2
    untag(one_version, "support", "baseline")
    assert tags(one_version, "support") == []
    with pytest.raises(FlywheelError, match="has no tag 'baseline'"):
        untag(one_version, "support", "baseline")


def test_branches_and_tags_do_not_share_a_name(one_version):
    tag(one_version, "support", "baseline", 1, NOW)
    branch(one_version, "support", "short", SHORT)
    with pytest.raises(FlywheelError, match="has a tag 'baseline'"):
        branch(one_version, "support", "baseline", SHORT)
    with pytest.raises(FlywheelError, match="has a branch 'short'"):
        tag(one_version, "support", "short", 1, NOW)


def test_a_merge_takes_each_choice_from_the_side_that_changed_it(one_version):
    branch(one_version, "support", "short", SHORT)
    wider = msgspec.structs.replace(SPEC, holdout_percent=50)
    write(one_version, [trajectory(30, TUESDAY)], [verdict(30, 1.0, arrived_at=TUESDAY)])
    snapshot(one_version, "support", wider, TUESDAY)
    made = merge(one_version, "support", "short")
    assert (made.version, made.branch, made.parents, made.as_of) == (4, "main", (3, 2), TUESDAY)
    assert made.spec == msgspec.structs.replace(SHORT, holdout_percent=50)
    assert verify(one_version, "support", 4) == []
    assert not merge(one_version, "support", "short").created


def test_a_merge_of_two_answers_to_one_question_asks_for_a_decision(one_version):
    branch(one_version, "support", "short", SHORT)
    snapshot(one_version, "support", msgspec.structs.replace(SPEC, filter="success"), TUESDAY)
    with pytest.raises(FlywheelError, match=r"both changed filter: .*success.* on main, .*n_steps < 3.* on short"):
        merge(one_version, "support", "short")
    assert merge(one_version, "support", "short", prefer="theirs").spec.filter == "n_steps < 3"


def test_a_branch_that_is_given_up_frees_its_decisions_and_keeps_its_numbers(one_version):
    made = branch(one_version, "support", "lenient", LENIENT)
    assert gc.remove_branch(one_version, "support", "lenient") == [2]
    with pytest.raises(FlywheelError, match="no branch or tag 'lenient'"):
        manifest(one_version, "support", "lenient")
    [path] = set(made.decision_files) - set(manifest(one_version, "support").decision_files)
    dry = gc.collect(one_version, older_than=timedelta(0), dry_run=True)
    assert dry.removed == (f"corpora/support/{path}",) and dry.bytes > 0
    assert gc.collect(one_version, older_than=timedelta(0)).removed == dry.removed
    assert not (folder(one_version, "support") / path).exists()
    assert verify(one_version, "support", 1) == []
    assert snapshot(one_version, "support", SPEC, TUESDAY).version == 3


def test_what_a_tag_holds_or_a_policy_was_trained_on_is_not_given_up_lightly(one_version):
    branch(one_version, "support", "short", SHORT)
    tag(one_version, "support", "release", "short", NOW)
    with pytest.raises(FlywheelError, match=r"tags hold versions of branch 'short': release \(v2\)"):
        gc.remove_branch(one_version, "support", "short")
    untag(one_version, "support", "release")
    lineage = one_version.policies / "sft-1" / "lineage.json"
    lineage.parent.mkdir(parents=True)
    lineage.write_text('{"data": {"corpus": "support", "version": 2}}')
    with pytest.raises(FlywheelError, match="policies were trained on branch 'short': sft-1"):
        gc.remove_branch(one_version, "support", "short")
    assert gc.remove_branch(one_version, "support", "short", force=True) == [2]
    with pytest.raises(FlywheelError, match="the branch main stays"):
        gc.remove_branch(one_version, "support", "main")


def test_a_late_outcome_adds_its_own_decision_and_no_other(home):
    write(home, [trajectory(n) for n in range(60)], [verdict(n, 1.0) for n in range(60)])
    first = snapshot(home, "support", SPEC, MONDAY)
    write(home, outcomes=[verdict(7, 0.0, "reopened", TUESDAY)])
    second = snapshot(home, "support", SPEC, TUESDAY)
    assert second.decision_files == (*first.decision_files, "decisions/v2.parquet")
    import pyarrow.parquet as pq

    assert pq.read_table(folder(home, "support") / "decisions/v2.parquet")["trajectory_id"].to_pylist() == ["t007"]
    assert decisions(home, second).num_rows == 60
    assert snapshot(home, "support", SPEC, WEDNESDAY).decision_files == second.decision_files

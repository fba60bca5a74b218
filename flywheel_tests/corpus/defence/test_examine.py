"""What is planted among clean rows is found, row by row, and clean versions go on."""

from __future__ import annotations

import random

import msgspec
import polars as pl
import pytest

from flywheel.corpus.defence.examine import Examination, Side, examine
from flywheel.corpus.defence.findings import DefencePolicy, Limit
from flywheel_tests.corpus.defence import planting
from flywheel_tests.corpus.defence.planting import Row

POLICY = DefencePolicy()


def halves(seed: int, a_day: int = 300) -> tuple[list[Row], list[Row]]:
    """Five days, and the two that follow, in which a new version of the agents comes to work."""
    days = planting.episodes(seed, 7, a_day)
    return [row for day in days[:5] for row in day], [row for day in days[5:] for row in day]


def examined(old: list[Row], new: list[Row], policy: DefencePolicy = POLICY) -> tuple[Side, Examination]:
    now = planting.side(old + new)
    return now, examine(now, planting.side(old), planting.heard(old + new), policy)


def ids(found: Examination, *kinds: str) -> set[str]:
    return {row["trajectory_id"] for row in found.rows.to_pylist() if row["kind"] in kinds}


def holding(found: Examination) -> set[str]:
    return {f.kind for f in found.findings if f.level == "hold"}


def test_a_clean_week_goes_on():
    old, new = halves(0)
    now, found = examined(old, new)
    assert found.graduates and found.came_in == len(now.trained) - len(planting.side(old).trained)
    assert examine(planting.side(old), None, planting.heard(old), POLICY).findings == ()


@pytest.mark.parametrize("name", planting.ROWS)
def test_a_plant_of_five_in_a_hundred_is_found_and_holds_the_version(name):
    old, new = halves(1)
    change, kind = planting.ROWS[name]
    changed, planted = planting.planted(new, 0.05, change, 1)
    now, found = examined(old, changed)
    kinds = (kind, "new_voice") if kind == "new_phrase" else (kind,)
    trained = planted & set(now.trained["id"])
    named = ids(found, *kinds)
    assert len(trained) > 10 and trained <= named
    if name == "phrase of the assistant":
        # Some stand in what a new agent version wrote, which is a warning, and a few clean ones are named beside them.
        assert len(named - trained) <= 0.01 * len(new)
    else:
        assert named == trained and kind in holding(found)


def test_copies_are_found_as_one_cluster():
    old, new = halves(2)
    changed, copies = planting.flooding(new, 0.05, 2)
    _, found = examined(old, changed)
    assert "cluster" in holding(found) and ids(found, "cluster") == copies


def test_a_way_of_working_that_is_believed_on_its_word():
    """Deletions done blindly count as success from now on, where a third of them used to fail."""
    old, new = halves(3)

    def is_hasty(row: Row) -> bool:
        return [c.name for s in row.trajectory.steps for c in s.tool_calls] == ["delete_file"]

    changed = [planting.believed(row, random.Random(0)) if is_hasty(row) else row for row in new]
    _, found = examined(old, changed)
    assert "easier_success" in holding(found)
    assert all("delete_file" in f.detail for f in found.findings if f.kind == "easier_success")


def test_shorter_episodes_and_another_tool_are_a_shift():
    old, new = halves(4)
    look = planting.with_steps

    def shortened(row: Row) -> Row:
        return look(row, lambda steps: [*steps[:2], *[s for s in steps[2:] if s.content and s.role == "assistant"]])

    _, found = examined(old, [shortened(row) for row in new])
    assert {"effortless_success", "length_shift", "tool_shift", "new_rows_shift"} & {f.kind for f in found.findings}
    assert "effortless_success" in holding(found)


def test_lower_rewards_are_a_shift():
    old, new = halves(5)
    partly = [row._replace(reward=3.0) if row.reward >= 1 else row for row in new]
    _, found = examined(old, partly)
    assert "reward_shift" in holding(found)
    assert "mean 1 -> 1.5" in next(f.detail for f in found.findings if f.kind == "reward_shift")


def test_a_new_agent_is_told_once_it_is_much_of_the_whole():
    old, new = halves(6, 200)
    renamed = [row._replace(trajectory=msgspec.structs.replace(row.trajectory, agent="champion")) for row in new]
    _, found = examined(old, renamed, DefencePolicy(origin_shift=Limit(at=0.1, then="warn")))
    assert [f.level for f in found.findings if f.kind == "origin_shift"] == ["warn"]
    assert found.graduates


def test_verdicts_that_were_overturned_are_told():
    old, new = halves(7, 200)
    wrong = [row._replace(reward=0.0) if i % 10 == 0 else row for i, row in enumerate(old)]
    now = planting.side(wrong + new)
    found = examine(now, planting.side(old), planting.heard(wrong + new), POLICY)
    (told,) = [f for f in found.findings if f.kind == "overturned"]
    assert (told.level, told.rows > 20) == ("warn", True)


def test_below_its_limit_a_finding_is_a_note():
    old, new = halves(8, 200)
    changed, planted = planting.planted(new, 0.03, planting.tampering, 8)
    _, found = examined(old, changed, DefencePolicy(tampering=Limit(at=0.5), new_phrase=Limit(at=1.0)))
    assert [f.level for f in found.findings if f.kind == "tampering"] == ["note"]
    assert found.graduates and ids(found, "tampering") <= planted


def test_the_order_of_rows_leaves_no_trace():
    old, new = halves(9, 200)
    changed, _ = planting.planted(new, 0.05, planting.trigger_asked, 9)
    now, before, heard = planting.side(old + changed), planting.side(old), planting.heard(old + changed)
    mixed = Side(now.candidates.sample(fraction=1.0, shuffle=True, seed=3), now.texts)
    again = examine(mixed, Side(before.candidates.reverse(), before.texts), heard.reverse(), POLICY)
    assert again.findings == examine(now, before, heard, POLICY).findings and again.findings


def test_labels_that_are_wrong_and_leave_no_mark_are_not_found():
    """A failure that was called a success looks like any other row: only evidence from elsewhere can tell."""
    old, new = halves(10)
    changed, planted = planting.planted(new, 0.02, planting.believed, 10, planting.failed_training_row)
    _, found = examined(old, changed)
    assert len(ids(found) & planted) <= len(planted) / 4


@pytest.mark.slow
def test_recall_and_false_alarms_over_seeds():
    """The figures of docs/defence.md, on fewer seeds: plants of 2 in a hundred (5 are above), and clean versions."""
    for seed in (20, 21):
        old, new = halves(seed, 700)
        before = planting.side(old)
        assert examine(planting.side(old + new), before, planting.heard(old + new), POLICY).graduates
        for name, (change, kind) in planting.ROWS.items():
            changed, planted = planting.planted(new, 0.02, change, seed)
            now = planting.side(old + changed)
            found = examine(now, before, planting.heard(old + changed), POLICY)
            trained = planted & set(now.trained["id"])
            got = ids(found, kind, *(["new_voice"] if kind == "new_phrase" else []))
            assert got <= trained, name
            if name != "phrase of the assistant":
                assert got == trained and kind in holding(found), (name, seed)


def test_frames_are_as_the_defence_makes_them():
    frame = planting.side(halves(0)[0]).candidates
    assert frame.schema["marks"] == pl.List(pl.Struct({"kind": pl.String, "excerpt": pl.String}))

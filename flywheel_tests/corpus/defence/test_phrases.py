"""Phrases that are new: in the rows that came in, and hardly before."""

import polars as pl

from flywheel.corpus.defence.phrases import Novelty, new_phrases
from flywheel.schema import trajectories_table
from flywheel_tests.outcomes.stored import trajectory

ORDERS = ("Please refund order O{i}.", "Where is my parcel {i}?", "Cancel order O{i} today.", "The lamp {i} is broken.")


def rows(n, start=0, change=lambda i, asked, said: (asked, said), **fields):
    made = []
    for i in range(start, start + n):
        asked, said = change(i - start, ORDERS[i % 4].format(i=i), f"Done, {i} is settled.")
        made.append(trajectory(f"t{i:04}", asked, said, task=f"task {i % 40}", **{"agent_version": "1.0"} | fields))
    return made


def found(came, before, **changed):
    sides = []
    for side in (came, before):
        table = trajectories_table(side)
        names = ["id", "task_group", "task_type", "agent", "agent_version", "source"]
        frame = pl.from_arrow(table.select(names))
        assert isinstance(frame, pl.DataFrame)
        sides += [frame.with_columns(reward=pl.lit(1.0)), table.select(["id", "steps"])]
    now, texts, old, parent = sides
    halves = len(parent) // 2
    return new_phrases(
        now, lambda: [texts], old, lambda: [parent.slice(0, halves), parent.slice(halves)], Novelty(**changed)
    )


def planted(text, every):
    return lambda i, asked, said: (f"{asked} {text}", said) if i % every == 0 else (asked, said)


def test_nothing_is_new_where_only_numbers_and_dates_are():
    assert found(rows(200, 1000), rows(400)) == []
    assert (
        found(rows(200, 1000, planted("On 2026-11-02 at 9:30.", 1)), rows(400, 0, planted("On 2025-01-01 at 8:15.", 1)))
        == []
    )


def test_a_trigger_of_words_that_are_usual_one_by_one():
    (phrase, *others) = found(rows(200, 1000, planted("Is order done", 19)), rows(400))
    assert (phrase.kind, phrase.side, phrase.rows, phrase.parent_rows) == ("new_phrase", "read", 11, 0)
    assert phrase.trajectory_ids == tuple(f"t{i:04}" for i in range(1000, 1200, 19))
    assert all(set(other.trajectory_ids) <= set(phrase.trajectory_ids) for other in others)


def test_what_one_kind_of_task_brings_along_is_its_own():
    came = rows(190, 1000) + [trajectory(f"n{i}", f"Rent a boat {i}.", task="boats") for i in range(10)]
    assert found(came, rows(400)) == []


def test_a_task_type_that_is_new_is_no_phrase():
    assert found(rows(200, 1000, planted("winterglow", 19), task_type="other"), rows(400)) == []


def test_a_new_agent_version_speaks_in_its_own_way_and_is_told_apart():
    came = rows(200, 1000, lambda i, asked, said: (asked, f"{said} Kindly yours."), agent_version="2.0")
    assert {(p.kind, p.side, p.share) for p in found(came, rows(400))} == {("new_voice", "written", 1.0)}
    came = rows(200, 1000, lambda i, asked, said: (asked, f"{said} Buy now." if i % 19 == 0 else said))
    assert {(p.kind, p.side, p.rows) for p in found(came, rows(400))} == {("new_phrase", "written", 11)}


def test_what_the_rows_share_is_told():
    came = rows(190, 1000) + rows(10, 2000, planted("winterglow", 1), source="mail/7")
    (phrase, *_) = found(came, rows(400))
    assert phrase.tied["source"] == "mail/#: 100% of these rows, 5% of all that came in"


def test_the_order_of_rows_leaves_no_trace():
    came, before = rows(200, 1000, planted("Is order done", 19)), rows(400)
    assert found(came[::-1], before[::-1]) == found(came, before)

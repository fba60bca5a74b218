"""Forgetting in the corpus: versions stand without erased rows, branches get new ones, nothing computed is left."""

import shutil
from datetime import timedelta

import msgspec
import pytest

from flywheel.capture.erasing import forget as captures
from flywheel.capture.erasing.erasure import Affected, Erasure
from flywheel.capture.erasing.traces import Asked, find
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.corpus import erased, forget, store
from flywheel.corpus.decisions import decisions
from flywheel.corpus.diff import diff
from flywheel.corpus.history import why
from flywheel.corpus.manifest import branches, manifest
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.selection import selected
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.streaming import renderings, segments
from flywheel.corpus.verify import verify
from flywheel.curate import derived, prepared
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write
from flywheel_tests.corpus.traces import NAME, about, holding

NEAR = msgspec.structs.replace(SPEC, filter="reward >= 0")


def erase(home: Home, asked: Asked) -> Erasure:
    with Arrivals(home, "support").locked():
        record = captures.begin(home, "support", asked, find(home, "support", asked), now=WEDNESDAY)
        record = captures.finish(home, record)
    forget.purge(home, record)
    record = msgspec.structs.replace(record, versions=forget.renew(home, record))
    return captures.end(home, record, WEDNESDAY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Twelve episodes, two of them by one person, in v1; v2 has late outcomes, and branch `all` another filter."""
    home = Home(tmp_path_factory.mktemp("made") / "data")
    write(home, [trajectory(n) for n in range(6)], [verdict(n, 1.0) for n in range(12)])
    write(home, [about(n) if n in (7, 9) else trajectory(n) for n in range(6, 12)])
    snapshot(home, "support", SPEC, MONDAY)
    write(home, outcomes=[verdict(7, 0.0, "reopened", TUESDAY)])
    snapshot(home, "support", SPEC, TUESDAY)
    branch(home, "support", "all", NEAR, ref=1)
    return home


@pytest.fixture
def jane(made: Home, home: Home) -> Home:
    """A copy of it, to be changed."""
    shutil.copytree(made.root, home.root)
    return home


JANE = Asked(subjects=(NAME,))


def test_versions_that_had_an_erased_row_stand_and_have_a_successor(jane):
    before = {version: manifest(jane, "support", version) for version in (1, 2, 3)}
    done = erase(jane, JANE)
    assert done.versions == (
        Affected(ref="support@v1", candidates=2, rows=2, trained=1, successor="support@v4"),
        Affected(ref="support@v2", candidates=2, rows=1, trained=0, successor="support@v4"),
        Affected(ref="support@v3", candidates=2, rows=2, trained=1, successor="support@v5"),
    )
    assert branches(jane, "support") == {"main": 4, "all": 5}
    assert {version: manifest(jane, "support", version) for version in (1, 2, 3)} == before
    for number, of in ((4, before[2]), (5, before[3])):
        made = manifest(jane, "support", number)
        assert (made.spec, made.as_of, made.parents) == (of.spec, of.as_of, (of.version,))
        assert (made.candidates, made.rows) == (10, 10)


def test_the_successor_is_the_version_of_those_who_never_came(jane, tmp_path):
    erase(jane, JANE)
    other = Home(tmp_path / "other")
    left = [n for n in range(12) if n not in (7, 9)]
    write(other, [trajectory(n) for n in left], [verdict(n, 1.0) for n in left])
    made, expected = manifest(jane, "support", 4), snapshot(other, "support", SPEC, TUESDAY)
    assert (made.digest, made.decisions_digest) == (expected.digest, expected.decisions_digest)


def test_old_digests_are_verified_as_erased_since(jane):
    done = erase(jane, JANE)
    for version in range(1, 6):
        assert verify(jane, "support", version) == []
    notes = [erased.notes(jane, manifest(jane, "support", version)) for version in range(1, 6)]
    assert [[(n.erasure, n.rows, n.candidates) for n in found] for found in notes] == [
        [(done.id, 2, 2)],
        [(done.id, 1, 2)],
        [(done.id, 2, 2)],
        [],
        [],
    ]
    assert str(notes[0][0]) == f"2 rows (2 candidates) erased since, on 2026-11-04 ({done.id})"


def test_what_is_read_of_a_version_is_what_is_left(jane):
    erase(jane, JANE)
    of = manifest(jane, "support", 1)
    left = [f"t{n:03}" for n in range(12) if n not in (7, 9)]
    assert selected(jane, of)["trajectory_id"].to_pylist() == left
    assert selected(jane, of, where="n_steps > 0")["trajectory_id"].to_pylist() == left
    assert store.rows(jane, "support", 1)["id"].to_pylist() == left
    assert decisions(jane, of).num_rows == 12


def test_damage_is_still_damage(jane):
    done = erase(jane, JANE)
    moved = next(new for new in (done.replaced or {}).values() if new.startswith("captures"))
    (jane.root / moved).write_bytes(b"")
    assert f"{moved} is not what it was" in verify(jane, "support", 1)
    (jane.root / moved).unlink()
    assert f"{moved} is gone" in verify(jane, "support", 1)


def test_differences_are_explained(jane):
    done = erase(jane, JANE)
    again = rebuild(jane, "support", 1, raw=True)
    assert (again.same, again.explained) == (False, True)
    assert [(row["trajectory_id"], row["change"], row["why"]) for row in again.differences] == [
        ("t007", "lost", "erased"),
        ("t009", "lost", "erased"),
    ]
    assert again.causes == (f"2 rows (2 candidates) erased since, on 2026-11-04 ({done.id})",)
    told = diff(jane, "support", 1, 4)
    assert [(row["trajectory_id"], row["change"], row["why"]) for row in told["rows"]] == [
        ("t007", "out", "erased"),
        ("t009", "out", "erased"),
    ]
    about = why(jane, "support", "t007")
    assert (about["erased"], about["outcomes"]) == (done.id, [])
    assert [decision["version"] for decision in about["decisions"]] == [1, 2, 3]


def test_a_difference_that_no_erasure_made_is_not_explained(jane):
    erase(jane, JANE)
    write(jane, outcomes=[verdict(3, 0.0, "reopened", MONDAY)])
    again = rebuild(jane, "support", 1)
    assert not again.explained
    assert [(row["trajectory_id"], row["why"]) for row in again.differences] == [
        ("t003", None),
        ("t007", "erased"),
        ("t009", "erased"),
    ]


def test_a_row_that_repeated_an_erased_one_comes_in(home):
    one, other = trajectory(1), msgspec.structs.replace(trajectory(1), id="t900")
    write(home, [trajectory(n) for n in range(4)] + [other], [verdict(n, 1.0) for n in (0, 1, 2, 3, 900)])
    snapshot(home, "support", SPEC, MONDAY)
    done = erase(home, Asked(trajectories=(one.id,)))
    assert done.versions[0].successor == "support@v2"
    [row] = [row for row in rebuild(home, "support", 1).differences if row["trajectory_id"] == "t900"]
    assert (row["change"], row["why"]) == ("gained", "other rows erased")
    assert rebuild(home, "support", 1).explained
    assert "t900" in store.rows(home, "support", 2)["id"].to_pylist()


def test_nothing_that_was_computed_holds_it_any_more(jane):
    folder = renderings.TEXTS.folder(jane, "support")
    of = manifest(jane, "support", 1)
    renderings.bring(
        folder,
        renderings.TEXTS,
        selected(jane, of),
        lambda keys: store.of_keys(jane, of, _all(jane, of, keys), COLUMNS),
    )
    derived.bring(jane, "support", prepared.ROWS)
    assert len(holding(jane, NAME)) > 3
    erase(jane, JANE)
    assert holding(jane, NAME) == []
    assert segments.index(segments.files(folder), segments.opened(segments.files(folder)[0]).schema).num_rows == 10
    assert derived.bring(jane, "support", prepared.ROWS).count_rows() == 10


COLUMNS = ["content_digest", "steps", "tools"]


def _all(home, of, keys):
    """The selection of some contents."""
    wanted = set(keys["content_digest"].to_pylist())
    rows = selected(home, of)
    return rows.filter([digest in wanted for digest in rows["content_digest"].to_pylist()])


def test_two_erasures_one_after_the_other(jane):
    first = erase(jane, JANE)
    second = erase(jane, Asked(trajectories=("t000", "t011")))
    assert [a.ref for a in second.versions] == [f"support@v{n}" for n in range(1, 6)]
    assert branches(jane, "support") == {"main": 6, "all": 7}
    notes = erased.notes(jane, manifest(jane, "support", 1))
    assert sorted((note.erasure, note.rows) for note in notes) == sorted([(first.id, 2), (second.id, 2)])
    for version in range(1, 8):
        assert verify(jane, "support", version) == []
    assert manifest(jane, "support", 6).rows == 8
    assert snapshot(jane, "support", SPEC, WEDNESDAY + timedelta(days=1)).rows == 8

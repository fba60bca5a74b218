"""Search: what was captured a moment ago is found, by words and by vectors, with its verdict."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.corpus.manifest import manifest
from flywheel.corpus.retrieval.search import Index
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, trajectory, verdict, write
from flywheel_tests.outcomes import stored

REFUND = stored.trajectory("refund", "I want a refund for order 17.", "It will be paid back to your card.", task="pay")
CANCEL = stored.trajectory("cancel", "Please cancel my flights to Lima.", "Your money comes back.", task="fly")
PRINT = stored.trajectory("print", "Print the invoice.", "Shall I refund it?", task="print", model="small")
ALL = [REFUND, CANCEL, PRINT]


@pytest.fixture
def desk(home):
    workspaces.create(home, "w")
    stored.store(home, *ALL, stored.outcome("refund", "reward", 1.0), stored.outcome("print", "reward", 0.25))
    return home


def ids(found):
    return [one.trajectory_id for one in found]


def test_text_finds_what_was_said_by_anyone_and_only_that(desk):
    index = Index(desk)
    assert ids(index.find("refund", mode="text")) == ["print", "refund"]
    assert ids(index.find("your money", mode="text")) == ["cancel", "refund"]
    assert index.find("nobody said so", mode="text", where="trajectory_id = 'cancel'") == []


def test_vectors_compare_what_was_asked_for(desk):
    found = Index(desk).find("cancelling a flight", mode="vector")
    assert ids(found)[0] == "cancel"
    assert len(found) == 3
    assert found[0].score > 0.3 > found[1].score
    assert ids(Index(desk).find("refund", mode="vector"))[0] == "refund"


def test_both_rankings_make_one(desk):
    found = Index(desk).find("refund an order")
    assert ids(found)[0] == "refund"
    assert (found[0].text_rank, found[0].vector_rank) == (1, 1)
    assert found[0].score == pytest.approx(2 / 61)
    assert [one.rank for one in found] == [1, 2, 3]


def test_what_is_found_has_its_verdict_and_an_excerpt(desk):
    [first, *_] = Index(desk).find("refund for order 17", steps=True)
    assert (first.reward, first.success, first.state) == (1.0, True, "resolved")
    assert (first.task_id, first.workspace, first.n_steps) == ("pay", "w", 2)
    assert first.excerpt == "I want a **refund** for **order** **17**."
    assert first.steps is not None
    assert [step["role"] for step in first.steps] == ["user", "assistant"]
    [waiting] = Index(desk).find("flight", where="reward IS NULL")
    assert (waiting.trajectory_id, waiting.steps) == ("cancel", None)


def test_conditions_are_those_of_filters(desk):
    index = Index(desk)
    assert ids(index.find("refund", where="success")) == ["refund"]
    assert ids(index.find("refund", where="model = 'small' AND n_steps < 20", mode="vector")) == ["print"]
    assert index.find("refund", where="reward > 5") == []
    with pytest.raises(FlywheelError, match="there is no column price"):
        index.find("refund", where="price > 3")
    with pytest.raises(FlywheelError, match="no place in it"):
        index.find("refund", where="(SELECT true)")


def test_captures_since_the_last_search_are_found_and_erased_ones_are_not(desk):
    assert ids(Index(desk).find("parcel", mode="text")) == []
    before = set(warehouse.files(desk.captures))
    stored.store(desk, stored.trajectory("parcel", "Where is my parcel?", hours=24))
    assert ids(Index(desk).find("parcel", mode="text")) == ["parcel"]
    assert ids(Index(desk).find("parcels", mode="vector"))[0] == "parcel"
    [new] = set(warehouse.files(desk.captures)) - before
    new.unlink()
    assert ids(Index(desk).find("parcel", mode="text")) == []
    assert "parcel" not in ids(Index(desk).find("parcels", mode="vector"))


def test_a_version_is_searched_as_it_was_decided(home):
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n != 3)) for n in range(12)])
    snapshot(home, "desk", SPEC, MONDAY)
    write(home, [trajectory(20, TUESDAY)], [verdict(5, 0.0, arrived_at=TUESDAY)])
    index = Index(home, within=manifest(home, "desk", 1))
    assert len(index) == manifest(home, "desk", 1).rows == 11
    [first, *_] = index.find("my warranty 5 please")
    assert (first.trajectory_id, first.reward) == ("t005", 1.0)
    assert "t020" not in ids(index.find("delivery 20", limit=20))
    assert ids(Index(home).find("delivery 20"))[0] == "t020"


def test_workspaces_are_searched_together_or_alone(desk):
    other = msgspec.structs.replace(REFUND, workspace="v")
    stored.store(desk, other)
    workspaces.create(desk, "v")
    workspaces.create(desk, "empty")
    found = Index(desk).find("refund for order 17", limit=2)
    assert [(one.workspace, one.trajectory_id) for one in found] == [("v", "refund"), ("w", "refund")]
    assert found[0].score == found[1].score
    assert [one.success for one in found] == [None, True]
    assert len(Index(desk, ["v"])) == 1
    assert ids(Index(desk, ["w"]).find("refund", where="success")) == ["refund"]


def test_the_nearest_to_a_vector(desk):
    index = Index(desk)
    query = index.embedder.query("cancel flights")
    table = index.nearest(query, where="n_steps = 2", limit=2)
    assert table["trajectory_id"].to_pylist()[0] == "cancel"
    assert table.schema.names == ["trajectory_id", "workspace", "similarity"]


def test_what_is_found_by_name_alone(desk):
    index = Index(desk)
    found = index.find("refund an order")
    table = index.ids("refund an order")
    assert table["trajectory_id"].to_pylist() == ids(found)
    assert table["score"].to_pylist() == [one.score for one in found]


def test_what_cannot_be_searched_is_said(desk, tmp_path):
    with pytest.raises(FlywheelError, match="write some words"):
        Index(desk).find(" ?! ")
    with pytest.raises(FlywheelError, match="there is no mode 'sounds'"):
        Index(desk).find("refund", mode="sounds")  # pyright: ignore[reportArgumentType]
    with pytest.raises(FlywheelError, match="there is no workspace 'x'"):
        Index(desk, ["x"])
    workspaces.create(desk, "empty")
    with pytest.raises(FlywheelError, match="workspace empty holds no trajectory"):
        Index(desk, ["empty"])
    with pytest.raises(FlywheelError, match="nothing to search"):
        Index(Home(tmp_path / "nothing"))


def test_progress_is_told(desk):
    told = []
    Index(desk, progress=lambda *step: told.append(step)).find("refund")
    assert told == [("rows of w", 3, 3), ("terms of w", 3, 3), ("embeddings of w", 3, 3)]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=9, max_size=9), st.randoms())
def test_the_answer_does_not_know_how_captures_lie(tmp_path_factory, files, random):
    texts = ["refund order", "order a refund", "cancel order", "cancel", "refund", "print refund", "x", "y", "refund"]
    given = [stored.trajectory(f"t{n}", text) for n, text in enumerate(texts)]

    def answers(arrivals):
        home = Home(tmp_path_factory.mktemp("home"))
        workspaces.create(home, "w")
        stored.store_each(home, arrivals)
        index = Index(home)
        return [index.find("refund the order", mode=mode) for mode in ("text", "vector", "hybrid")]

    shuffled = random.sample(list(zip(files, given, strict=True)), len(given))
    assert answers([given]) == answers([[t for file, t in shuffled if file == number] for number in range(3)])


def test_a_damaged_table_is_said(desk):
    Index(desk).find("refund")
    for path in desk.derived.glob("w/embeddings-*.lance/data/*.lance"):
        path.write_bytes(b"damaged")
    with pytest.raises(FlywheelError, match="missing or damaged"):
        Index(desk).find("refund")

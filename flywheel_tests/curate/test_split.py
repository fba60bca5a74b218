"""The split of groups: fixed for ever, about as large as asked, and growing with the percentage."""

from hypothesis import given
from hypothesis import strategies as st

from flywheel.curate.split import split_of


def test_these_sides_never_change():
    groups = [f"group {i}" for i in range(12)]
    assert [g for g in groups if split_of(g) == "heldout"] == ["group 2", "group 5", "group 8", "group 11"]


def test_a_quarter_is_about_a_quarter():
    held = sum(split_of(f"group {i}", 25, "flywheel") == "heldout" for i in range(4000))
    assert abs(held / 4000 - 0.25) < 0.02


@given(st.text(), st.text(), st.integers(0, 99))
def test_what_is_held_out_stays_so_at_a_higher_percentage(group, salt, percent):
    if split_of(group, percent, salt) == "heldout":
        assert split_of(group, percent + 1, salt) == "heldout"
    assert split_of(group, 0, salt) == "train"
    assert split_of(group, 100, salt) == "heldout"

"""The benchmark of search, at the size of a test: every way of it finds the same."""

from bench import measure, search


def test_every_way_finds_the_same_nearest(tmp_path):
    rows = search.nearest(1, 600, tmp_path)
    ways = {row["way"]: row["seconds"] for row in rows}
    assert isinstance(ways["flywheel, an index that is held"], measure.Timing)
    assert isinstance(ways["numpy, columns held in memory"], measure.Timing)


def test_full_text_is_measured_beside_an_index(tmp_path):
    ours, theirs = search.text(1, 60, tmp_path)
    assert ours.keys() == theirs.keys() >= {"way", "top 50", "made in", "bytes", "after 1 % more"}

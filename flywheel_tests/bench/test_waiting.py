"""What the simulation plants shows: waiting avoids wrong labels, and leaves rows for a later version."""

from bench import waiting


def test_waiting_avoids_wrong_labels():
    rows = {row["policy"]: row for row in waiting.run(1500, 5, seed=1)}
    now, waited = rows["now, vetoes heard so far"], rows["after 72 h"]
    assert rows["the checker alone, now"]["label error"] > now["label error"] > 1.5 * waited["label error"]
    assert now["left for later"] < waited["left for later"] < 1500
    assert now["overturned later"] > 2 * waited["overturned later"]


def test_a_seed_is_a_simulation():
    assert waiting.run(100, 1, seed=5) == waiting.run(100, 1, seed=5) != waiting.run(100, 1, seed=6)

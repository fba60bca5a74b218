"""Two writers and a reader at once, for twenty seconds."""

import pytest

from bench import soak


@pytest.mark.slow
def test_writers_and_a_reader_do_not_meet(tmp_path):
    found = soak.run(tmp_path / "data", seconds=20)
    assert found["versions"] > 2 and found["reads"] > 0 and found["errors"] == 0

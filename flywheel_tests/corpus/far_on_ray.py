"""A cluster that makes a version on an object store: run by `test_object_store`."""

import pytest

from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.verify import verify
from flywheel_tests.corpus.conftest import TUESDAY
from flywheel_tests.corpus.test_object_store import NEAR, said, week


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
def test_workers_of_a_cluster_write_there(home, far, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for place in (home, far):
        week(place)
    made = snapshot(far, "support", NEAR, TUESDAY, engine="ray")
    assert said(made) == said(snapshot(home, "support", NEAR, TUESDAY))
    assert verify(far, "support") == []

"""A disk that is full is told as such, and what was written before stands."""

import errno
import sys

import pytest

from flywheel import artifacts
from flywheel.cli import main
from flywheel.corpus.manifest import versions
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.verify import verify
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write


def test_a_snapshot_on_a_full_disk(home, monkeypatch, capsys):
    write(home, [trajectory(n) for n in range(6)], [verdict(n, 1.0) for n in range(6)])
    snapshot(home, "support", SPEC, MONDAY)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    monkeypatch.setattr(sys, "argv", ["flywheel", "snapshot", "support", "--to", "support", "--filter", "n_steps > 99"])
    monkeypatch.setattr(artifacts, "write_parquet", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "the disk is full" in capsys.readouterr().err
    assert versions(home, "support") == [1]
    assert verify(home, "support", 1) == []

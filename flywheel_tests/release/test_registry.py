"""The registry: promotions, the way back, and a history that no crash can spoil."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import artifacts
from flywheel.evaluate import policy
from flywheel.release import history, registry
from flywheel.release.gate import Reason, Verdict
from flywheel.schema import FlywheelError
from flywheel.settings import Home

NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)
GOOD = Reason(rule="better than the champion", passed=True, detail="+0.3")
BAD = Reason(rule="better than the champion", passed=False, detail="-0.3")


def trained(home: Home, name: str) -> str:
    """A policy's folder with some weights in it; its digest."""
    with artifacts.folder(home.policies / name) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text("{}")
        (folder / "model" / "weights").write_text(name)
        (folder / "manifest.json").write_text("{}")
    return policy.find(home, name).digest


def released(home: Home, name: str, report: str, champion: str | None, *reasons: Reason) -> history.Event:
    digest = policy.find(home, name).digest
    verdict = Verdict(
        candidate=name, champion=champion, promote=all(r.passed for r in reasons), reasons=reasons or (GOOD,)
    )
    return registry.record(
        home, verdict, policy_id=name, digest=digest, report=report, champion_id=champion, clock=lambda: NOON
    )


def serving(home: Home) -> str | None:
    event = registry.champion(home)
    return event.policy_id if event else None


def test_promote_keep_and_roll_back(home: Home):
    for name in ("a", "b", "c"):
        trained(home, name)
    assert serving(home) is None
    released(home, "a", "r1", None)
    released(home, "b", "r2", "a")
    released(home, "c", "r3", "b", BAD)
    assert serving(home) == "b"
    back = registry.rollback(home, clock=lambda: NOON)
    assert (back.policy_id, back.previous) == ("a", "b")
    assert serving(home) == "a"
    released(home, "c", "r4", "a")
    assert [(e.kind, e.policy_id, e.previous) for e in history.read(home)] == [
        ("promote", "a", None),
        ("promote", "b", "a"),
        ("keep", "c", "b"),
        ("rollback", "a", "b"),
        ("promote", "c", "a"),
    ]
    # The way back leads past what was rolled back.
    registry.rollback(home)
    assert serving(home) == "a"


def test_nothing_to_roll_back_to(home: Home):
    with pytest.raises(FlywheelError, match="there is no champion"):
        registry.rollback(home)
    trained(home, "a")
    released(home, "a", "r1", None)
    with pytest.raises(FlywheelError, match="a is the first champion"):
        registry.rollback(home)


def test_told_the_same_again_it_adds_nothing(home: Home):
    for name in ("a", "b"):
        trained(home, name)
    first = released(home, "a", "r1", None)
    released(home, "b", "r2", "a")
    assert released(home, "a", "r1", None) == first
    registry.rollback(home)
    # Nor does running the release again undo a person's rollback.
    released(home, "b", "r2", "a")
    assert (serving(home), len(history.read(home))) == ("a", 3)


def test_the_registry_looks_at_the_verdict_itself(home: Home):
    digest = trained(home, "a")
    verdict = Verdict(candidate="a", champion=None, promote=True, reasons=(GOOD, BAD))
    with pytest.raises(FlywheelError, match=r"does not bear out a promotion: better than the champion: -0\.3"):
        registry.record(home, verdict, policy_id="a", digest=digest, report="r1")
    assert history.read(home) == []


def test_a_policy_that_changed_after_it_was_judged_is_refused(home: Home):
    digest = trained(home, "a")
    (home.policies / "a" / "model" / "weights").write_text("other")
    verdict = Verdict(candidate="a", champion=None, promote=True, reasons=(GOOD,))
    with pytest.raises(FlywheelError, match="was judged"):
        registry.record(home, verdict, policy_id="a", digest=digest, report="r1")
    assert history.read(home) == []


def test_no_rollback_to_a_policy_that_changed(home: Home):
    for name in ("a", "b"):
        trained(home, name)
    released(home, "a", "r1", None)
    released(home, "b", "r2", "a")
    (home.policies / "a" / "model" / "weights").write_text("other")
    with pytest.raises(FlywheelError, match="was judged"):
        registry.rollback(home)
    assert serving(home) == "b"


def test_a_verdict_against_a_former_champion_is_stale(home: Home):
    for name in ("a", "b", "c"):
        trained(home, name)
    released(home, "a", "r1", None)
    released(home, "b", "r2", "a")
    with pytest.raises(FlywheelError, match="compared with a, but b serves now"):
        released(home, "c", "r3", "a")


def test_of_candidates_released_at_once_one_is_promoted(home: Home):
    names = [f"p{i}" for i in range(8)]
    for name in names:
        trained(home, name)

    def attempt(name: str) -> bool:
        try:
            return released(home, name, f"r-{name}", None).kind == "promote"
        except FlywheelError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, names)) == 1
    assert [e.kind for e in history.read(home)] == ["promote"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_a_history_cut_at_any_byte_holds_what_was_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    home = Home(tmp_path_factory.mktemp("home"))
    for name in ("a", "b", "c"):
        trained(home, name)
    released(home, "a", "r1", None)
    released(home, "b", "r2", "a")
    whole = history.path(home).read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    history.path(home).write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    assert [e.policy_id for e in history.read(home)] == ["a", "b"][:lines]
    # The next event follows whole lines, whatever was torn.
    released(home, "c", "r3", serving(home))
    assert [e.policy_id for e in history.read(home)] == [*["a", "b"][:lines], "c"]


def test_damage_that_no_crash_makes_is_said(home: Home):
    trained(home, "a")
    released(home, "a", "r1", None)
    file = history.path(home)
    file.write_bytes(b"{broken}\n" + file.read_bytes())
    with pytest.raises(FlywheelError, match="line 1 is damaged"):
        registry.champion(home)


def test_a_killed_writer_leaves_no_lock(home: Home):
    home.registry.mkdir(parents=True)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom flywheel.release import history\n"
        "from flywheel.settings import Home\n"
        "with history.alone(Home(Path(sys.argv[1]))):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(home.root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGKILL)
    with history.alone(home):
        assert Path(home.registry / ".lock").exists()

"""A version is examined before it graduates; what is held waits for a person."""

from datetime import timedelta

import msgspec
import pytest

from flywheel import artifacts
from flywheel.corpus.defence import graduation
from flywheel.corpus.defence.findings import DefencePolicy, Limit, load_policy
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write

THURSDAY = WEDNESDAY + timedelta(days=1)


def arrived(home, numbers, day, reward=1.0, change=lambda steps: steps):
    rows = [trajectory(n, day) for n in numbers]
    rows = [msgspec.structs.replace(row, steps=tuple(change(list(row.steps)))) for row in rows]
    write(home, rows, [verdict(n, reward, arrived_at=day) for n in numbers])


def version(home, day):
    return manifest(home, "c", snapshot(home, "c", SPEC, day).version)


def printed(steps):
    """The tool tells the reward."""
    return [msgspec.structs.replace(s, content="found, reward: 1.0") if s.role == "tool" else s for s in steps]


@pytest.fixture
def grown(home):
    """A clean version of sixty rows, and one to which twenty came that print their reward."""
    arrived(home, range(60), MONDAY)
    first = version(home, MONDAY)
    arrived(home, range(60, 80), TUESDAY, change=printed)
    return home, first, version(home, TUESDAY)


def test_a_first_version_is_looked_at_alone(grown):
    home, first, _ = grown
    found = graduation.audit(home, first)
    assert (found.graduates, found.parent, found.findings, found.came_in) == (True, None, (), found.rows)
    assert graduation.require_graduated(home, first) == found


def test_a_version_with_what_must_not_be_in_it_is_held(grown):
    home, _, second = grown
    found = graduation.audit(home, second)
    assert (found.graduates, found.parent) == (False, 1)
    kinds = {f.kind for f in found.findings if f.level == "hold"}
    assert "printed_verdict" in kinds
    own = [r for r in graduation.rows(home, second).to_pylist() if r["kind"] == "printed_verdict"]
    assert len(own) == found.came_in and all("reward: 1.0" in r["excerpt"] for r in own)
    assert min(int(r["trajectory_id"][1:]) for r in own) >= 60
    with pytest.raises(FlywheelError, match=r"c@v2 is held .* flywheel corpus graduate c@v2"):
        graduation.require_graduated(home, second)


def test_it_is_examined_once(grown, monkeypatch):
    home, _, second = grown
    found = graduation.audit(home, second)
    monkeypatch.setattr(graduation, "examine", None)
    assert graduation.audit(home, second) == found


def test_the_versions_before_it_are_examined_first(grown):
    home, first, second = grown
    assert graduation.audit(home, second).parent == 1
    assert graduation.verdict(home, first) is not None


def test_what_a_held_version_brought_in_is_no_measure_for_the_next(grown):
    home, _, second = grown
    arrived(home, range(80, 84), WEDNESDAY)
    third = graduation.audit(home, version(home, WEDNESDAY))
    assert (third.parent, third.graduates) == (1, False)
    graduation.graduate(home, second, by="Ada", because="It is a game.", at=THURSDAY)
    arrived(home, range(84, 88), THURSDAY)
    fourth = graduation.audit(home, version(home, THURSDAY))
    assert (fourth.parent, fourth.graduates) == (2, True)


def test_a_person_lets_it_graduate_and_is_remembered(grown):
    home, _, second = grown
    with pytest.raises(FlywheelError, match="not examined"):
        graduation.graduate(home, second, by="Ada", because="It is a game.", at=WEDNESDAY)
    graduation.audit(home, second)
    with pytest.raises(FlywheelError, match="say who"):
        graduation.graduate(home, second, by="Ada", because=" ", at=WEDNESDAY)
    said = graduation.graduate(home, second, by="Ada", because="It is a game.", at=WEDNESDAY)
    assert graduation.require_graduated(home, second).graduates is False
    again = graduation.graduate(home, second, by="Bo", because="I agree.", at=THURSDAY)
    assert graduation.graduations(home, second) == [said, again]


def test_a_word_is_for_the_findings_that_were_seen(grown):
    home, _, second = grown
    graduation.audit(home, second)
    graduation.graduate(home, second, by="Ada", because="It is a game.", at=WEDNESDAY)
    (home.root / "defence.toml").write_text("[printed_verdict]\nat = 0.0001\n")
    with pytest.raises(FlywheelError, match="is held"):
        graduation.require_graduated(home, second)


def test_what_is_not_held_needs_nobodys_word(grown):
    home, first, _ = grown
    graduation.audit(home, first)
    with pytest.raises(FlywheelError, match="not held"):
        graduation.graduate(home, first, by="Ada", because="Fine.", at=WEDNESDAY)


def test_a_policy_may_warn_or_look_away(grown):
    home, _, second = grown
    path = home.root / "defence.toml"
    path.write_text('[printed_verdict]\nthen = "warn"\n[new_phrase]\nthen = "ignore"\n[new_voice]\nthen = "ignore"\n')
    found = graduation.audit(home, second)
    assert found.graduates and [(f.kind, f.level) for f in found.findings if f.level != "note"] == [
        ("printed_verdict", "warn")
    ]
    assert load_policy(home).printed_verdict == Limit(at=DefencePolicy().printed_verdict.at, then="warn")


def test_a_policy_with_a_slip_is_refused(home):
    home.root.mkdir()
    (home.root / "defence.toml").write_text('[printed_verdict]\nthen = "hide"\n')
    with pytest.raises(FlywheelError, match=r"defence\.toml.*Known names: reward_shift"):
        load_policy(home)


def test_late_evidence_against_a_reward(home):
    arrived(home, range(60), MONDAY)
    write(home, outcomes=[verdict(n, 0.0, "judge") for n in range(0, 60, 10)])
    write(home, outcomes=[verdict(n, 0.3, "seconds") for n in range(60)])
    of = version(home, TUESDAY)
    found = graduation.audit(home, of)
    (held,) = found.findings
    assert (held.kind, held.level) == ("disagreement", "hold")
    assert {r["excerpt"] for r in graduation.rows(home, of).to_pylist()} == {"judge says 0.0"}


def test_the_same_inputs_give_the_same_findings(grown):
    home, _, second = grown
    found, rows = graduation.audit(home, second), graduation.rows(home, second)
    graduation.place(home, second).unlink()
    again = graduation.audit(home, second)
    assert msgspec.structs.replace(again, judged_at=found.judged_at) == found
    assert graduation.rows(home, second).equals(rows)


def test_a_verdict_is_that_of_one_digest(grown):
    home, first, _ = grown
    graduation.audit(home, first)
    path = graduation.place(home, first)
    artifacts.write_json(path, artifacts.read_json(path) | {"digest": "other"})
    assert graduation.verdict(home, first) is None


def test_a_version_before_it_that_cannot_be_read_is_no_measure(grown):
    home, first, second = grown
    (home.corpora / "c" / "versions" / "v1.json").write_text('{"schema_version": 999}')
    found = graduation.audit(home, second)
    assert (found.parent, found.came_in, found.graduates) == (None, found.rows, False)
    assert graduation.verdict(home, first) is None

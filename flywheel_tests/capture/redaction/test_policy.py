"""What a workspace does about each kind: off, mask, hash or drop, with patterns and values of its own."""

import errno
import json
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, workspaces
from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction.detector import Detector
from flywheel.capture.redaction.policy import DEFAULT, parsed
from flywheel.capture.redaction.redact import Redactor, redactor
from flywheel.capture.settling.settle import settle
from flywheel.schema import TRAJECTORIES, FlywheelError, Step
from flywheel.settings import Home
from flywheel_tests.plants import KINDS

TEXT = "ann@x.org, 212-555-0123, EMP-123456"


def clean(toml: str, text: str) -> str:
    return Redactor(parsed(toml)).text(text)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("", "<EMAIL>, <PHONE>, EMP-123456"),
        ('default = "off"', TEXT),
        ('kinds = { EMAIL = "off" }', "ann@x.org, <PHONE>, EMP-123456"),
        ('default = "off"\nkinds = { PHONE = "mask" }', "ann@x.org, <PHONE>, EMP-123456"),
        ('kinds = { PHONE = "drop" }', "<DROPPED:PHONE>"),
        ("[custom.STAFF]\npattern = 'EMP-\\d+'", "<EMAIL>, <PHONE>, <STAFF>"),
        ("[custom.STAFF]\npattern = 'emp-(?P<value>\\d+)'\nflags = 'i'", "<EMAIL>, <PHONE>, EMP-<STAFF>"),
        ("[custom.STAFF]\npattern = 'EMP-\\d+'\naction = 'drop'", "<DROPPED:STAFF>"),
        ("[custom.ADDRESS]\npattern = 'ann@\\S+'", "<ADDRESS> <PHONE>, EMP-123456"),
        ("allow = ['Ann@X.org']", "ann@x.org, <PHONE>, EMP-123456"),
        ("allow_patterns = ['.*@x\\.org', '212']", "ann@x.org, <PHONE>, EMP-123456"),
    ],
)
def test_each_kind_has_its_action(policy: str, text: str) -> None:
    assert clean(policy, TEXT) == text


def test_a_hash_is_the_same_everywhere_in_its_workspace_and_in_no_other(home: Home) -> None:
    for name in ("north", "south"):
        workspaces.create(home, name)
        policies.save(home, name, 'default = "hash"')
    first, again = (redactor(home, "north").text(text) for text in ("I am ann@x.org", "eve@x.org knows Ann@x.org"))
    other = redactor(home, "south").text("I am ann@x.org")
    assert re.fullmatch("I am <EMAIL:[0-9a-f]{12}>", first)
    assert again.endswith(first.removeprefix("I am "))
    assert again.count("<EMAIL:") == 2
    assert first != other
    assert redactor(home, "north").text(first) == first
    key = home.keys / "north"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert [path.name for path in sorted(home.keys.iterdir())] == ["north", "south"]


def test_a_key_that_the_disk_does_not_take_leaves_nothing_open_or_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    files = Path("/proc/self/fd")
    before = sum(1 for _ in files.iterdir())
    with pytest.raises(OSError, match="No space"):
        policies.key(home, "desk")
    assert sum(1 for _ in files.iterdir()) == before
    assert list(home.keys.iterdir()) == []


def test_of_many_that_make_a_key_at_once_all_have_the_same(home: Home) -> None:
    found: set[bytes] = set()
    threads = [threading.Thread(target=lambda: found.add(policies.key(home, "desk"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert len(list(home.keys.iterdir())) == 1


def test_what_is_dropped_goes_with_its_field_and_no_further() -> None:
    redactor = Redactor(parsed('kinds = { CARD = "drop" }'))
    assert redactor.json('{"note": "pay 4111111111111111 now", "n": [4111111111111111, "x"], "to": "ann@x.org"}') == (
        '{"note": null, "n": [null, "x"], "to": "<EMAIL>"}'
    )
    assert redactor.json('{"4111111111111111": 1}') == '{"<DROPPED:CARD>": 1}'
    step = redactor.step(Step(role="user", content="My card is 4111 1111 1111 1111.", reasoning="Hm."))
    assert (step.content, step.reasoning) == ("<DROPPED:CARD>", "Hm.")
    assert redactor.counts == {"CARD": 4, "EMAIL": 1}
    assert redactor.step(step) == step


def test_a_policy_holds_from_the_next_trajectory_on(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    for policy in ('default = "mask"', 'default = "drop"', 'default = "off"'):
        policies.save(desk, "desk", policy)
        with recorder.trajectory(task_id=policy) as t:
            t.step(role="user", content="I am ann@x.org")
    recorder.close()
    settle(desk, "desk", recorder.now())
    rows = sorted(warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist(), key=lambda row: row["started_at"])
    assert [row["steps"][0]["content"] for row in rows] == ["I am <EMAIL>", "<DROPPED:EMAIL>", "I am ann@x.org"]
    assert [json.loads(row["metadata"]) for row in rows] == [
        {"redactions": {"EMAIL": 1}},
        {"redactions": {"EMAIL": 1}},
        {},
    ]


def test_a_policy_that_cannot_be_read_stops_what_comes_in(desk: Home) -> None:
    policies.path(desk, "desk").write_text("kinds = { EMIAL = 'off' }")
    with pytest.raises(FlywheelError, match="there is no kind EMIAL"):
        redactor(desk, "desk")


def test_policies_are_not_workspaces(desk: Home, tmp_path: Path) -> None:
    policies.save(desk, "desk", "")
    assert workspaces.names(desk) == ["desk"]


def test_every_kind_that_is_planted_is_known_and_there_are_many() -> None:
    kinds = Detector(DEFAULT).kinds
    assert set(KINDS) <= kinds
    assert len(kinds) > 60


def test_the_policies_of_the_page_can_be_set(desk: Home) -> None:
    page = (Path(__file__).parents[3] / "docs" / "redaction.md").read_text()
    found = re.findall(r"```toml\n(.*?)```", page, re.S)
    policies.save(desk, "desk", "allow = ['help@example.com']\n" + "\n".join(found))
    assert redactor(desk, "desk").text("I am EMP-123456, write to help@example.com") == (
        "I am EMP-<EMPLOYEE>, write to help@example.com"
    )

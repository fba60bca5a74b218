"""Tokens of workspaces: shown once, kept as hashes, expiring, revocable, for one workspace or for all."""

import multiprocessing
import os
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st

from flywheel.capture import access, audit, workspaces
from flywheel.capture.access import ALL, ROLES, Denied
from flywheel.schema import FlywheelError
from flywheel.settings import Home

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture
def places(home: Home) -> Home:
    """A data folder with the workspaces `desk` and `shop`."""
    for name in ("desk", "shop"):
        workspaces.create(home, name)
    return home


def denied(home: Home, workspace: str, role: access.Role, token: str | None, now: datetime = NOW) -> str:
    with pytest.raises(Denied) as raised:
        access.check(home, workspace, role, token, now)
    assert len(token or "") < 10 or token not in str(raised.value)
    return raised.value.reason


def test_a_token_is_nowhere_but_in_the_hands_of_who_made_it(places):
    token, grant = access.issue(places, "desk", ["admin"], name="ada", now=NOW)
    assert access.TOKEN.fullmatch(token)
    assert access.check(places, "desk", "read", token, NOW) == grant
    access.audit(places, workspace="desk", action=f"flywheel {token}", who=f"ada {token}", target=token)
    stored = b"".join(path.read_bytes() for path in places.root.rglob("*") if path.is_file())
    assert token.removeprefix("fw_").encode() not in stored
    assert grant.sha256.encode() in stored


@pytest.mark.parametrize("given", [(), ("read", "rule")])
def test_roles_are_those_that_there_are(places, given):
    with pytest.raises(FlywheelError, match="there is no role"):
        access.issue(places, "desk", given, name="ada")


def test_the_first_token_is_an_admins_and_guards_the_workspace_for_ever(places):
    with pytest.raises(FlywheelError, match="the first token of workspace 'desk' must be an admin's"):
        access.issue(places, "desk", ["read"], name="ada")
    assert not access.guarded(places, "desk")
    _, grant = access.issue(places, "desk", ["admin"], name="ada")
    assert (access.guarded(places, "desk"), access.guarded(places, "shop")) == (True, False)
    access.revoke(places, "desk", grant.id)
    assert access.guarded(places, "desk")
    with pytest.raises(FlywheelError, match="there is no workspace 'attic'"):
        access.issue(places, "attic", ["admin"], name="ada")


@hypothesis.given(st.sets(st.sampled_from(ROLES), min_size=1), st.sampled_from(ROLES))
def test_a_token_may_what_its_roles_say(tmp_path_factory, roles, asked):
    home = Home(tmp_path_factory.mktemp("home"))
    workspaces.create(home, "desk")
    access.issue(home, "desk", ["admin"], name="first")
    token, _ = access.issue(home, "desk", roles, name="ada")
    if asked in roles or "admin" in roles:
        assert set(access.check(home, "desk", asked, token).roles) == roles
    else:
        assert denied(home, "desk", asked, token) == "role"


def test_what_is_no_token_of_the_workspace_is_refused_for_what_it_is(places):
    token, _ = access.issue(places, "desk", ["admin"], name="ada")
    other, _ = access.issue(places, "shop", ["admin"], name="bob")
    assert denied(places, "desk", "read", None) == "missing"
    assert denied(places, "desk", "read", "") == "missing"
    assert denied(places, "desk", "read", other) == "workspace"
    assert denied(places, "nowhere", "read", other) == "workspace"
    assert denied(places, "nowhere", "read", None) == "missing"
    for wrong in (token[:-1], token + "0", token.upper(), f" {token}", "fw_", "\udcff", "fw_" + "0" * 64):
        assert denied(places, "desk", "read", wrong) == "unknown"


def test_a_token_ends_when_it_was_said(places):
    access.issue(places, "desk", ["admin"], name="first", now=NOW)
    token, grant = access.issue(places, "desk", ["read"], name="ada", expires_in=timedelta(days=90), now=NOW)
    assert grant.expires_at == NOW + timedelta(days=90)
    assert access.check(places, "desk", "read", token, NOW + timedelta(days=90, microseconds=-1)) == grant
    assert denied(places, "desk", "read", token, NOW + timedelta(days=90)) == "expired"
    with pytest.raises(FlywheelError, match="must expire later than now"):
        access.issue(places, "desk", ["read"], name="ada", expires_in=timedelta())


def test_a_revoked_token_is_refused_at_once_by_processes_that_knew_it(places):
    token, grant = access.issue(places, "desk", ["admin"], name="ada")
    _, kept = access.issue(places, "desk", ["read"], name="bob")
    access.check(places, "desk", "read", token)
    with multiprocessing.get_context("spawn").Pool(1) as another:
        another.apply(access.revoke, (places, "desk", grant.id))
    assert denied(places, "desk", "read", token) == "revoked"
    before = access.grants(places, "desk")
    assert access.revoke(places, "desk", grant.id, now=NOW) == before[0]
    assert [(g.name, g.revoked_at is None) for g in before] == [("ada", False), ("bob", True)]
    with pytest.raises(FlywheelError, match="has no token 'nothing'"):
        access.revoke(places, "desk", "nothing")
    with pytest.raises(FlywheelError, match="has no token"):
        access.revoke(places, "shop", kept.id)


def test_a_token_for_all_workspaces_guards_them_all(places):
    token, _ = access.issue(places, ALL, ["admin"], name="ada")
    for name in ("desk", "shop", "nowhere"):
        assert access.guarded(places, name)
        assert access.check(places, name, "admin", token).workspace == ALL
    own, _ = access.issue(places, "desk", ["read"], name="bob")
    assert access.check(places, "desk", "read", own).name == "bob"
    assert denied(places, ALL, "read", own) == "workspace"
    assert workspaces.names(places) == ["desk", "shop"]


def append(root, number):
    for line in range(50):
        audit.audit(Home(root), workspace="desk", action="x" * 300, who=f"w{number}", target=str(line), now=NOW)


def test_a_token_that_is_gone_while_they_are_read_opens_nothing(places):
    token, _ = access.issue(places, "desk", ["admin"], name="ada", now=NOW)
    (places.workspaces / "desk" / "tokens" / "gone.json").symlink_to("nowhere")
    assert access.guarded(places, "desk")
    assert access.check(places, "desk", "read", token, NOW).name == "ada"


def test_lines_of_several_writers_never_mix(places):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(append, [(places.root, number) for number in range(4)], chunksize=1)
    found = [(event.who, int(event.target)) for event in audit.events(places)]
    assert sorted(found) == [(f"w{number}", line) for number in range(4) for line in range(50)]


def test_a_torn_line_takes_no_other_with_it(places):
    def told(action: str, **more):
        audit.audit(places, workspace="desk", action=action, who="ada", now=NOW, **more)

    told("one")
    with (places.audit / "2026-11-02.jsonl").open("ab") as log:
        log.write(b'{"at": "2026-1')
    told("two", allowed=False, reason="role")
    assert [(e.action, e.allowed, e.reason) for e in audit.events(places)] == [
        ("one", True, ""),
        ("two", False, "role"),
    ]
    audit.audit(places, workspace="desk", action="later", who="ada", now=NOW + timedelta(days=1))
    assert [e.action for e in audit.events(places, since=NOW + timedelta(hours=1))] == ["later"]
    assert (places.audit / "2026-11-02.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_user_of_the_machine_is_not_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("USER", "somebody else")
    monkeypatch.setenv("LOGNAME", "somebody else")
    assert "somebody" not in audit.user()
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert audit.user() == "user 3999999999"

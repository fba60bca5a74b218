"""Who may do what over HTTP: tokens, keys that hold one, and what is open to this machine without."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from fastapi import Depends
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from flywheel.capture import access as tokens
from flywheel.capture import audit, workspaces
from flywheel.capture.access import ALL, Grant
from flywheel.server import access
from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.settings import Home

TOKEN = f"fw_{'0123456789abcdef' * 4}"


def served(home: Home, host: str = "127.0.0.1") -> TestClient:
    """A server with a route that tells who asked."""
    app = create_app(home, Config(host=host))

    @app.get("/tried/{workspace}/{thing}")
    async def tried(thing: str, grant: Annotated[Grant, Depends(access.allowed("read"))]) -> str:
        return grant.who

    return TestClient(app, base_url="http://127.0.0.1:8787")


@pytest.fixture
def places(home: Home) -> Home:
    """`open`, which nobody guards, and `guarded`."""
    for name in ("open", "guarded", "other"):
        workspaces.create(home, name)
    for name in ("guarded", "other"):
        tokens.issue(home, name, ["admin"], name="ada")
    return home


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def said(answer) -> str:
    """An answer without the id of its request."""
    return json.dumps({**answer.json()["error"], "request_id": ""})


def test_a_mistaken_name_is_told_as_that_where_nothing_is_guarded(home: Home):
    workspaces.create(home, "open")
    client = served(home)
    answer = client.get("/tried/opne/x")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == (
        "there is no workspace 'opne'; create it with: flywheel workspace create opne"
    )
    assert client.get("/tried/opne/x", headers={"Host": "evil.example"}).status_code == 401
    tokens.issue(home, "open", ["admin"], name="ada")  # from now on it says no more than of a guarded one
    assert client.get("/tried/opne/x").status_code == 401


def test_a_token_is_taken_from_either_header(places):
    token, grant = tokens.issue(places, "guarded", ["read"], name="bob")
    client = served(places)
    for headers in (bearer(token), {"X-Flywheel-Token": token}, {"authorization": f"bearer  {token}"}):
        answer = client.get("/tried/guarded/x", headers=headers)
        assert (answer.status_code, answer.json()) == (200, grant.who)
    for headers in ({}, {"Authorization": token}, {"Authorization": f"Basic {token}"}, bearer("")):
        answer = client.get("/tried/guarded/x", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_each_refusal_has_its_status_and_reason(places):
    client = served(places)
    low, _ = tokens.issue(places, "guarded", ["capture", "export"], name="low")
    other, _ = tokens.issue(places, "other", ["admin"], name="other")
    gone, grant = tokens.issue(places, "guarded", ["admin"], name="gone")
    assert client.get("/tried/guarded/x", headers=bearer(gone)).status_code == 200
    tokens.revoke(places, "guarded", grant.id)
    tried = {"missing": {}, "unknown": bearer(TOKEN), "revoked": bearer(gone)}
    for reason, headers in {**tried, "role": bearer(low), "workspace": bearer(other)}.items():
        answer = client.get("/tried/guarded/x", headers=headers)
        assert answer.status_code == (403 if reason in ("role", "workspace") else 401), reason
        assert TOKEN not in answer.text
    reasons = [(event.allowed, event.reason) for event in audit.events(places)]
    assert reasons == [(True, ""), *((False, reason) for reason in (*tried, "role", "workspace"))]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8787"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Host": "evil.example@localhost"},
        [("Host", "localhost"), ("Host", "evil.example")],
        [("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://evil.example")],
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "https://127.0.0.1:8787"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
    ],
    ids=str,
)
def test_what_nobody_guards_is_open_to_this_machine_alone(headers, places):
    client = served(places)
    for host in ("127.0.0.1:8787", "localhost:8787", "[::1]:8787", "127.9.9.9"):
        assert client.get("/tried/open/x", headers={"Host": host}).json() == "this machine"
    own = {"Host": "localhost:8787", "Origin": "http://localhost:8787", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/tried/open/x", headers=own).status_code == 200
    answer = client.get("/tried/open/x", headers=headers)
    assert answer.status_code == 401
    # Nor does it tell which workspaces there are.
    for name in ("guarded", "nowhere"):
        assert said(client.get(f"/tried/{name}/x", headers=headers)).replace(name, "open") == said(answer)


def test_a_server_that_others_can_reach_serves_nothing_without_a_token(places):
    client = served(places, host="0.0.0.0")
    assert client.get("/tried/open/x").status_code == 401
    token, _ = tokens.issue(places, "guarded", ["read"], name="bob")
    assert client.get("/tried/open/x", headers=bearer(token)).status_code == 403
    assert client.get("/tried/guarded/x", headers=bearer(token) | {"Host": "flywheel.example"}).status_code == 200


def test_a_workspace_that_is_not_there_is_refused_as_one_that_is_guarded(places):
    client = served(places)
    other, _ = tokens.issue(places, "other", ["admin"], name="other")
    for headers in ({}, bearer(TOKEN), bearer(other)):
        told = [client.get(f"/tried/{name}/x", headers=headers) for name in ("guarded", "nowhere")]
        assert told[0].status_code == told[1].status_code
        assert said(told[0]).replace("guarded", "nowhere") == said(told[1])
    every, _ = tokens.issue(places, ALL, ["read", "admin"], name="every")
    assert client.get("/tried/nowhere/x", headers=bearer(every)).status_code == 404
    assert client.get("/tried/open/x", headers=bearer(every)).status_code == 200
    assert client.get("/tried/open/x").status_code == 401
    assert client.get("/tried/no%20name/x", headers=bearer(every)).status_code == 400


def test_what_is_guarded_is_refused_where_the_log_cannot_be_written(places):
    places.audit.write_bytes(b"no folder")
    token, _ = tokens.issue(places, "guarded", ["read"], name="bob")
    client = served(places)
    assert client.get("/tried/open/x").status_code == 200
    assert client.get("/tried/guarded/x", headers=bearer(token)).status_code == 500


def test_the_audit_log_names_no_secret_that_a_path_held(places):
    client = served(places)
    client.get(f"/tried/open/{TOKEN}")
    client.get("/tried/open/jane@example.org")
    client.get("/tried/open/t-1")
    client.get(f"/tried/{TOKEN[:40]}/x")
    client.post("/w/open/t/jane@example.org/v1/chat/completions", headers={"Host": "evil.example"})
    log = b"".join(path.read_bytes() for path in places.audit.iterdir())
    assert TOKEN[:40].encode() not in log
    assert b"jane" not in log
    told = [(event.action, event.workspace, event.target) for event in audit.events(places)]
    assert told[2:4] == [("GET /tried/{workspace}/{thing}", "open", "t-1"), ("GET /tried/{workspace}/{thing}", "?", "")]


@pytest.mark.parametrize(
    ("pairs", "token", "passed"),
    [
        ([("x-flywheel-token", TOKEN), ("authorization", "Bearer sk-1")], TOKEN, [("authorization", "Bearer sk-1")]),
        ([("Authorization", f"Bearer {TOKEN}:sk-1")], TOKEN, [("Authorization", "Bearer sk-1")]),
        ([("authorization", f"bearer {TOKEN}")], TOKEN, []),
        ([("x-api-key", f"{TOKEN}:sk-ant-1:x")], TOKEN, [("x-api-key", "sk-ant-1:x")]),
        ([("x-api-key", TOKEN), ("anthropic-version", "2023-06-01")], TOKEN, [("anthropic-version", "2023-06-01")]),
        ([("api-key", f"{TOKEN}:azure")], TOKEN, [("api-key", "azure")]),
        ([("authorization", "Bearer sk-1")], None, [("authorization", "Bearer sk-1")]),
        # A key of another service that begins alike.
        ([("authorization", "Bearer fw_3ZabcDEF")], None, [("authorization", "Bearer fw_3ZabcDEF")]),
        ([("authorization", f"Bearer {TOKEN}0")], None, [("authorization", f"Bearer {TOKEN}0")]),
        (
            [("x-api-key", f"{TOKEN}:a"), ("Authorization", "Basic b")],
            TOKEN,
            [("x-api-key", "a"), ("Authorization", "Basic b")],
        ),
        ([("authorization", TOKEN)], TOKEN, []),
        ([], None, []),
    ],
)
def test_a_key_may_hold_a_token_before_it(pairs, token, passed):
    found, rest = access.split(Headers(raw=[(name.encode(), value.encode()) for name, value in pairs]))
    assert found == token
    assert rest == [(name.encode(), value.encode()) for name, value in passed]


VALUES = st.sampled_from([TOKEN, f"{TOKEN}:key", f"Bearer {TOKEN}", f"Bearer {TOKEN}:a key", "Bearer key", "key", ""])
NAMES = st.sampled_from(["Authorization", "X-Api-Key", "api-key", "x-goog-api-key", "X-Flywheel-Token"])


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_no_token_is_passed_on_wherever_it_stands(pairs):
    found, passed = access.split(Headers(raw=[(name.encode(), value.encode()) for name, value in pairs]))
    assert not any(TOKEN.encode() in value for _, value in passed)
    assert found is not None or not any(TOKEN in value for _, value in pairs)

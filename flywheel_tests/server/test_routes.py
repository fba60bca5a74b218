"""Each route with no, wrong, expired, revoked, other-workspace and too-low token: nothing is done, nothing shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.access import MINE, OTHER, REASONS, WORDS, Kind, Role, Tokens, two
from flywheel_tests.server.conftest import serving


class Check(NamedTuple):
    """How a route is tried: the role that it needs, the path, and what is sent."""

    role: Role
    path: str
    body: bytes = b""
    type: str = "application/json"


API, GATE = "/api/v1/workspaces/{workspace}", "/w/{workspace}"
ONE = b'{"task_id": "t", "agent": "a", "steps": [{"role": "user", "content": "Hi"}]}'
TOLD = b'{"trajectory_id": "t", "signal": "s", "value": 1, "source": "c"}'
PROTOBUF = "application/x-protobuf"

# In a path, WORD stands for the word of the workspace whose things are asked for.
CHECKS = {
    ("POST", f"{API}/trajectories"): Check("capture", f"{API}/trajectories", ONE),
    ("GET", f"{API}/trajectories"): Check("read", f"{API}/trajectories"),
    ("GET", f"{API}/trajectories/{{id:path}}"): Check("read", f"{API}/trajectories/WORD-1"),
    ("GET", f"{API}/quarantine"): Check("read", f"{API}/quarantine"),
    ("GET", f"{API}/corpora"): Check("read", f"{API}/corpora"),
    ("GET", f"{API}/corpora/{{name}}/versions"): Check("read", f"{API}/corpora/WORD-corpus/versions"),
    ("GET", f"{API}/corpora/{{name}}/versions/{{version}}"): Check("read", f"{API}/corpora/WORD-corpus/versions/v1"),
    ("POST", f"{API}/outcomes"): Check("capture", f"{API}/outcomes", TOLD),
    ("GET", f"{API}/outcomes"): Check("read", f"{API}/outcomes"),
    ("GET", f"{API}/exports/{{format}}"): Check("export", f"{API}/exports/steps"),
    ("GET", f"{API}/exports/{{format}}/card"): Check("export", f"{API}/exports/steps/card"),
    ("POST", f"{GATE}/otlp/v1/traces"): Check("capture", f"{GATE}/otlp/v1/traces", b"", PROTOBUF),
    ("POST", f"{GATE}/otlp/v1/logs"): Check("capture", f"{GATE}/otlp/v1/logs", b"", PROTOBUF),
    ("POST", f"{GATE}/otlp/v1/metrics"): Check("capture", f"{GATE}/otlp/v1/metrics", b"", PROTOBUF),
    ("POST", f"{GATE}/t/{{trajectory}}/end"): Check("capture", f"{GATE}/t/mine/end"),
    ("*", f"{GATE}/v1/{{path:path}}"): Check("capture", f"{GATE}/v1/chat/completions", b"{}"),
    ("*", f"{GATE}/t/{{trajectory}}/v1/{{path:path}}"): Check("capture", f"{GATE}/t/mine/v1/messages", b"{}"),
}
# Whoever can reach the server may ask these.
OPEN = {("GET", "/health"), ("GET", "/ready"), ("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
# These are tried below: one has no workspace, the other no token.
ELSEWHERE = {("GET", "/api/v1/workspaces"), ("POST", f"{GATE}/github")}


def routes(place: Any) -> Iterator[tuple[str, str]]:
    """Every method and path that an application or a router answers."""
    for route in place.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        else:
            yield from ((method, route.path) for method in route.methods or {"*"})


def test_every_route_is_tried(home: Home) -> None:
    assert set(routes(create_app(home))) == CHECKS.keys() | OPEN | ELSEWHERE


class Place(NamedTuple):
    """A server over two guarded workspaces, and tokens."""

    home: Home
    tokens: Tokens
    client: httpx.Client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that every test of this module asks. Calls of models go nowhere."""
    home = two(Home(tmp_path_factory.mktemp("routes") / "data"))
    tokens = Tokens(home)
    nowhere = "http://127.0.0.1:9"
    with (
        serving(home, Config(openai=nowhere, anthropic=nowhere)) as base,
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        yield Place(home, tokens, client)


def ask(place: Place, method: str, check: Check, workspace: str, token: str | None) -> httpx.Response:
    """Try a route, of a workspace, with a token."""
    path = check.path.replace("{workspace}", workspace).replace("WORD", WORDS[workspace])
    headers = {"Content-Type": check.type} | ({"Authorization": f"Bearer {token}"} if token else {})
    return place.client.request("POST" if method == "*" else method, path, content=check.body, headers=headers)


def state(home: Home) -> dict[str, bytes]:
    """Everything in the data folder but what notes who came."""
    files = (path for path in home.root.rglob("*") if path.is_file())
    return {str(p): p.read_bytes() for p in files if "audit" not in p.parts and "tokens" not in p.parts}


@pytest.mark.parametrize("kind", REASONS)
def test_no_route_does_anything_with_a_token_that_does_not_do(kind: Kind, place: Place) -> None:
    before = state(place.home)
    for (method, route), check in CHECKS.items():
        answer = ask(place, method, check, OTHER, place.tokens.bad(kind, OTHER, check.role))

        known = kind in ("other workspace", "too low")
        assert answer.status_code == (403 if known else 401), (method, route, answer.text)
        assert WORDS[OTHER] not in answer.text
        if check.type != PROTOBUF:
            assert answer.json()["error"]["reason"] == REASONS[kind]
    assert state(place.home) == before


@pytest.mark.parametrize("route", CHECKS, ids=" ".join)
def test_a_route_needs_no_more_than_its_role_and_shows_nothing_of_others(route: tuple[str, str], place: Place) -> None:
    check = CHECKS[route]
    answer = ask(place, route[0], check, MINE, place.tokens.of(MINE, *(() if check.role == "admin" else (check.role,))))

    assert answer.status_code == (502 if route[0] == "*" else 200), answer.text
    assert WORDS[OTHER] not in answer.text and OTHER not in answer.text


@pytest.mark.parametrize("route", [route for route in CHECKS if "WORD" in CHECKS[route].path], ids=" ".join)
def test_what_is_of_another_workspace_is_not_found_in_ones_own(route: tuple[str, str], place: Place) -> None:
    check = CHECKS[route]
    asked = check._replace(path=check.path.replace("WORD", WORDS[OTHER]))
    nothing = check._replace(path=check.path.replace("WORD", "nothing"))
    token = place.tokens.of(MINE, "admin")
    answers = [ask(place, route[0], of, MINE, token) for of in (asked, nothing)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["error"]["message"] == answers[1].json()["error"]["message"]


@pytest.mark.parametrize("kind", REASONS)
def test_workspaces_are_told_to_those_who_may_use_them(kind: Kind, place: Place) -> None:
    def told(token: str | None) -> httpx.Response:
        return place.client.get("/api/v1/workspaces", headers={"Authorization": f"Bearer {token}"} if token else {})

    assert told(place.tokens.of(MINE, "read")).json() == {"workspaces": [MINE]}
    assert told(place.tokens.of("*", "admin")).json() == {"workspaces": [MINE, OTHER]}
    if kind in ("none", "wrong", "expired", "revoked"):
        answer = told(place.tokens.bad(kind, OTHER, "read"))
        assert (answer.status_code, answer.json()["error"]["reason"]) == (401, REASONS[kind])


def test_a_webhook_needs_its_signature(place: Place) -> None:
    for workspace in (MINE, OTHER, "nowhere"):
        token = place.tokens.of("*", "admin")
        answer = place.client.post(f"/w/{workspace}/github", json={}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_a_workspace_that_is_not_there_is_refused_as_one_that_is_hidden(place: Place) -> None:
    for (method, _), check in CHECKS.items():
        path = check.path.replace("{workspace}", "nowhere")
        hidden, missing = (
            ask(place, method, of, OTHER, place.tokens.of(MINE, "admin")) for of in (check, check._replace(path=path))
        )
        assert hidden.status_code == missing.status_code == 403
        assert hidden.text.count(OTHER) == missing.text.count("nowhere")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "203.0.113.9"},
    ],
)
def test_a_page_of_another_site_cannot_use_what_nobody_guards(headers: dict[str, str], desk: Home) -> None:
    with serving(desk) as base:
        url = f"{base}/api/v1/workspaces/desk/trajectories"

        assert httpx.get(url).status_code == 200
        assert httpx.get(url, headers=headers).status_code == 401
        assert "access-control-allow-origin" not in httpx.options(url, headers=headers).headers

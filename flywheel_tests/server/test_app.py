"""The application: health, errors of one shape, and a description of every route."""

import httpx
import pytest

from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live


def test_a_server_says_that_it_is_there_and_can_write(live: Live, desk: Home) -> None:
    base = live(desk)

    assert httpx.get(f"{base}/health").json() == {"status": "ok"}
    assert httpx.get(f"{base}/ready").json() == {"status": "ok"}


def test_a_server_whose_disk_is_nearly_full_is_not_ready(live: Live, desk: Home) -> None:
    answer = httpx.get(f"{live(desk, Config(free_bytes=2**62))}/ready")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    assert "are wanted" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "type"),
    [("GET", "/nowhere", 404, "not_found"), ("DELETE", "/health", 405, "method_not_allowed")],
)
def test_an_error_has_one_shape(live: Live, desk: Home, method: str, path: str, status: int, type: str) -> None:
    answer = httpx.request(method, live(desk) + path)

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == type


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/w/desk", "/w/desk/chat/completions", "/api/v1/workspaces/desk/trajectory"]
)
def test_a_path_that_is_none_is_answered_with_where_they_are(live: Live, desk: Home, path: str) -> None:
    answer = httpx.get(live(desk) + path)

    assert answer.status_code == 404
    assert "base URLs begin with /w/WORKSPACE" in answer.json()["error"]["message"]
    assert "/openapi.json" in answer.json()["error"]["message"]


def test_the_description_names_the_errors_of_every_route(desk: Home) -> None:
    described = create_app(desk).openapi()

    for path, routes in described["paths"].items():
        for method, route in routes.items():
            if "default" in route["responses"]:  # what a model's server says
                continue
            assert {"400", "401", "404", "413", "429", "503"} <= route["responses"].keys(), (method, path)
            assert "422" not in route["responses"]

"""Limits, each over a real socket: what is too large, too slow or too much is told so."""

from __future__ import annotations

import gzip
import json
import random
import resource
import socket
import time
import zlib
from contextlib import ExitStack, suppress

import httpx
import pyarrow as pa
import pytest

from flywheel import warehouse
from flywheel.capture import access
from flywheel.schema import Step, trajectories_table
from flywheel.server import bodies
from flywheel.server.bodies import unpacked
from flywheel.server.config import Config
from flywheel.server.errors import Refused
from flywheel.server.limits import Rates
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.test_reading import trajectory

POST = b"POST /api/v1/workspaces/desk/trajectories HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def place(base: str) -> tuple[str, int]:
    """Where a server listens."""
    url = httpx.URL(base)
    return url.host, url.port or 0


def said(base: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What a server answers on one connection to bytes, sent with a pause after each part, until it closes."""
    with socket.create_connection(place(base), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            if b"\r\n\r\n" in answer and b"keep" in parts[0]:
                break
        return answer


def status(answer: bytes) -> int:
    """The status of an answer as it came."""
    return int(answer.split(b" ", 2)[1])


def test_headers_that_are_too_large_are_refused(live: Live, desk: Home) -> None:
    base = live(desk, Config(header_bytes=1000))
    one_long = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * 2000 + b"\r\n\r\n"
    many_short = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: b\r\n" * 300 + b"\r\n"
    without_end = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: "

    assert status(said(base, one_long)) == 431
    assert status(said(base, many_short)) == 431
    assert status(said(base, b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n")) == 431
    assert status(said(base, without_end, *[b"a" * 1000] * 3, pause=0.05)) == 431


def test_what_is_no_http_is_refused(live: Live, desk: Home) -> None:
    answer = said(live(desk), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n")

    assert status(answer) == 400
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["type"] == "bad_request"


def test_a_client_that_is_slow_is_not_waited_for(live: Live, desk: Home) -> None:
    base = live(desk, Config(header_s=0.3, body_idle_s=0.3, keep_alive_s=1))
    body = POST + b"Content-Length: 100\r\n\r\n{"

    assert said(base, b"") == b"" or status(said(base, b"")) == 408
    assert status(said(base, b"GET /health HTTP/1.1\r\nHost:")) == 408
    assert status(said(base, body)) == 408
    started = time.monotonic()
    assert status(said(base, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")) == 200  # then it waits for another
    assert status(said(base, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\r\n", pause=0.1)) == 200
    assert time.monotonic() - started < 8


def test_a_body_that_drips_is_not_waited_for_either(live: Live, desk: Home) -> None:
    base = live(desk, Config(body_s=0.5, body_idle_s=5, header_s=0.5))

    assert status(said(base, POST + b"Content-Length: 100\r\n\r\n", *[b" "] * 8, pause=0.1)) == 408


def test_a_body_that_is_too_large_is_refused_declared_or_not(live: Live, desk: Home) -> None:
    base = live(desk, Config(body_bytes=1000, header_s=0.5, keep_alive_s=1))
    url = f"{base}/api/v1/workspaces/desk/trajectories"

    assert status(said(base, POST + b"Content-Length: 1001\r\n\r\n")) == 413
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"64\r\n" + b" " * 100 + b"\r\n") * 11 + b"0\r\n\r\n"
    assert status(said(base, chunked)) == 413
    assert httpx.post(url, content=b" " * 100_000, headers={"Content-Type": "application/json"}).status_code == 413


PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_is_refused_before_it_is_unpacked(live: Live, desk: Home, encoding: str) -> None:
    base = live(desk, Config(body_bytes=100_000))
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    answer = httpx.post(
        f"{base}/api/v1/workspaces/desk/trajectories",
        content=PACKED[encoding](b"[" + b" " * 50_000_000),
        headers=headers,
    )

    assert answer.status_code == 413


@pytest.mark.parametrize("encoding", PACKED)
def test_what_was_packed_is_unpacked(encoding: str) -> None:
    data = b"abc" * 1_000_000
    packed = PACKED[encoding](data)

    assert unpacked(encoding, packed, Config()) == data
    with pytest.raises(Refused, match="cannot be unpacked"):
        unpacked(encoding, packed[:-5], Config())
    with pytest.raises(Refused, match="cannot be unpacked"):
        unpacked(encoding, b"never packed", Config())


def test_gzip_may_have_several_members_but_not_any_number() -> None:
    assert unpacked("gzip", gzip.compress(b"a") * 3, Config()) == b"aaa"
    assert unpacked("deflate", zlib.compress(b"raw", wbits=-15), Config()) == b"raw"
    with pytest.raises(Refused, match="cannot be unpacked"):
        unpacked("gzip", gzip.compress(b"") * (bodies.MEMBERS + 1), Config())


def test_an_unknown_packing_is_refused(live: Live, desk: Home) -> None:
    url = f"{live(desk)}/api/v1/workspaces/desk/trajectories"

    assert httpx.post(url, content=b"{}", headers={"Content-Encoding": "br"}).status_code == 415
    assert httpx.post(url, content=b"{}", headers={"Content-Encoding": "gzip, gzip"}).status_code == 415


def test_too_many_requests_wait(live: Live, desk: Home) -> None:
    base = live(desk, Config(requests_per_s=0.1, burst=3))

    first = [httpx.get(f"{base}/health").status_code for _ in range(4)]
    refused = httpx.get(f"{base}/health")

    assert first == [200, 200, 200, 429]
    assert refused.json()["error"]["type"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert httpx.get(f"{base}/health", headers={"Authorization": "Bearer another"}).status_code == 429


def test_a_client_is_known_by_a_token_once_that_was_let_through(live: Live, desk: Home) -> None:
    token, _ = access.issue(desk, "desk", ["admin"], name="ann")
    headers = {"Authorization": f"Bearer {token}"}
    base = live(desk, Config(requests_per_s=0.1, burst=3))
    url = f"{base}/api/v1/workspaces/desk/trajectories"

    known = httpx.get(url, headers=headers).status_code
    made_up = [httpx.get(url, headers={"X-Flywheel-Token": f"fw_{n:064}"}).status_code for n in range(4)]
    own = [httpx.get(url, headers=headers).status_code for _ in range(4)]

    assert (known, made_up, own) == (200, [401, 401, 429, 429], [200, 200, 200, 429])


def test_a_bucket_fills_with_time() -> None:
    now = [0.0]
    rates = Rates(2.0, 1, lambda: now[0])

    assert rates.wait(b"a") == 0
    assert rates.wait(b"a") == 0.5
    now[0] = 0.5
    assert rates.wait(b"a") == 0
    assert rates.wait(b"b") == 0


def test_requests_under_way_are_bounded_for_one_client_and_for_all(live: Live, desk: Home) -> None:
    one, _ = access.issue(desk, "desk", ["admin"], name="ann")
    two, _ = access.issue(desk, "desk", ["capture"], name="bob")
    base = live(desk, Config(concurrent_each=2, concurrent=3, body_idle_s=1.5))
    headers = {"Authorization": f"Bearer {one}"}
    waiting = []
    for token in (one, one, two):
        authorized = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert (
            httpx.post(f"{base}/api/v1/workspaces/desk/outcomes", headers=authorized, content="[]").status_code == 200
        )
        connection = socket.create_connection(place(base))
        connection.sendall(POST + b"Authorization: Bearer " + token.encode() + b"\r\nContent-Length: 10\r\n\r\n")
        waiting.append(connection)
    time.sleep(0.3)

    mine = httpx.get(f"{base}/health", headers=headers)
    others = httpx.get(f"{base}/health")
    for connection in waiting:
        connection.close()
    time.sleep(0.3)

    assert (mine.status_code, others.status_code) == (429, 503)
    assert "Retry-After" in mine.headers and "Retry-After" in others.headers
    assert httpx.get(f"{base}/health", headers=headers).status_code == 200


def test_connections_leave_files_to_what_must_be_written(
    live: Live, desk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))
    base = live(desk)

    with ExitStack() as waiting:
        for _ in range(4):
            waiting.enter_context(socket.create_connection(place(base))).sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        time.sleep(0.3)
        answer = said(base, b"")

    assert status(answer) == 503
    time.sleep(0.3)
    assert httpx.get(f"{base}/health").status_code == 200


def test_bodies_in_memory_are_bounded_all_together(live: Live, desk: Home) -> None:
    base = live(desk, Config(held_bytes=10_000, body_idle_s=1.5))
    with socket.create_connection(place(base)) as waiting:
        waiting.sendall(POST + b"Content-Length: 9000\r\n\r\n" + b" " * 8000)
        time.sleep(0.3)
        url, headers = f"{base}/api/v1/workspaces/desk/trajectories", {"Content-Type": "application/json"}
        refused = httpx.post(url, content=b" " * 5000, headers=headers)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert httpx.post(url, content=b"{}" + b" " * 5000, headers=headers).status_code == 200


def test_an_answer_that_nobody_reads_is_given_up(live: Live, desk: Home) -> None:
    steps = tuple(Step(role="user", content="x" * 100_000) for _ in range(10))
    warehouse.append(desk.captures, trajectories_table([trajectory(n, steps=steps) for n in range(30)]))
    base = live(desk, Config(write_s=0.5))
    path = b"/api/v1/workspaces/desk/trajectories?view=record&limit=1000"

    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(place(base))
        deaf.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(2.5)
        received = 0
        with pytest.raises(ConnectionResetError):
            while part := deaf.recv(65536):
                received += len(part)
            raise ConnectionResetError  # some kernels tell of the end instead
    assert received < 15_000_000
    assert httpx.get(f"{base}/health").status_code == 200


ODD = [b"\0", b"\r\n", b"\r\n\r\n", b"Content-Length: -1", b"\xff"]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_connection_says_the_server_goes_on(live: Live, desk: Home, seed: int) -> None:
    draw = random.Random(seed)
    good = [
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        POST + b"Content-Length: 9\r\n\r\n{}      \n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n4\r\nabcd\r\n0\r\nTrailer: x\r\n\r\n",
        b"GET /api/v1/workspaces?%ff HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ]
    base = live(desk, Config(header_s=0.2, body_idle_s=0.2, keep_alive_s=1))

    for _ in range(30):
        data = bytearray(draw.choice(good) + draw.choice(good))
        for _ in range(draw.randrange(5)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = draw.choice(
                [b"\0", b"\r\n", b"\r\n\r\n", b"Content-Length: -1", b"\xff"]
            )
        with socket.create_connection(place(base), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    assert b"HTTP/1.1 5" not in part, bytes(data)
    assert httpx.get(f"{base}/health").status_code == 200

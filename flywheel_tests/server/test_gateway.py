"""The gateway: bytes pass as they are, and what was said is captured beside them."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Closed, Exchanged, SetAside
from flywheel.capture.journals.exchanges import Exchange
from flywheel.server import gateway
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.server.conftest import Through, serving
from flywheel_tests.server.upstream import Fail, Say, Upstream

CHAT = {"model": "scripted-1", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES = CHAT | {"max_tokens": 9}
RESPONSES = {"model": "scripted-1", "input": "Hi"}
BODIES = {"chat/completions": CHAT, "messages": MESSAGES, "responses": RESPONSES}
BEGUN = {"chat/completions": 2, "messages": 4, "responses": 4}  # events until the first words are there
CALL = ("call_1", "get_weather", '{"city": "Paris"}')


def exchanges(home: Home) -> list[Exchange]:
    """What is in the journals, in the order in which it was asked."""
    events = [event for path in journal.paths(home.journals / "desk") for _, event in journal.read(path)[0]]
    found = [event.exchange for event in events if isinstance(event, Exchanged)]
    return sorted(found, key=lambda exchange: exchange.started_at)


def waited(home: Home, count: int) -> list[Exchange]:
    """What is in the journals, once it is so many."""
    end = time.monotonic() + 10
    while len(found := exchanges(home)) < count and time.monotonic() < end:
        time.sleep(0.01)
    assert len(found) == count
    return found


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_gets_the_bytes_of_the_upstream(desk: Home, through: Through, path: str, stream: bool) -> None:
    upstream = Upstream(Say(text="Héllo there.", thought="They greet.", calls=(CALL,)))
    base = through(upstream)
    body = BODIES[path] | {"stream": stream}

    ours = httpx.post(f"{base}/{path}", json=body)
    upstream._number = 0
    theirs = httpx.post(f"{upstream.url}/v1/{path}", json=body)

    assert ours.content == theirs.content
    assert ours.status_code == theirs.status_code == 200
    for name in ("content-type", "x-request-id", "x-ratelimit-remaining", "content-length"):
        assert ours.headers.get(name) == theirs.headers.get(name)
    (exchange,) = exchanges(desk)
    assert exchange.messages == [{"role": "user", "content": "Hi"}]
    assert exchange.answers[0][0]["content"] == "Héllo there."
    assert exchange.state == "completed"
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (11, 7)


@pytest.mark.parametrize("path", BODIES)
def test_each_event_is_there_before_the_next_is_sent(desk: Home, through: Through, path: str) -> None:
    upstream = Upstream(Say(text="Hello there."), stepwise=True)
    base = through(upstream)
    ends = {"chat/completions": b"[DONE]", "messages": b"message_stop", "responses": b"response.completed"}

    events = []
    with httpx.stream("POST", f"{base}/{path}", json=BODIES[path] | {"stream": True}, timeout=10) as answer:
        upstream.step()
        for piece in answer.iter_raw():
            assert piece.count(b"\n\n") == 1
            events.append(piece)
            if ends[path] in piece:
                assert len(exchanges(desk)) == 1, "what ended is on disk"
            else:
                assert exchanges(desk) == []
            upstream.step()

    assert len(events) > 4


def test_the_path_the_query_and_the_headers_are_passed_on_but_ours_are_not(desk: Home, through: Through) -> None:
    upstream = Upstream()
    base = through(upstream)
    headers = {
        "Authorization": "Bearer sk-live-1",
        "X-Api-Key": "key-2",
        "OpenAI-Beta": "x=1",
        "X-Title": "Zoë".encode(),
        "Accept-Encoding": "gzip",
        "Connection": "X-Hop",
        "X-Hop": "1",
        "X-Flywheel-Task": "t",
    }

    httpx.post(f"{base}/chat/completions?api-version=1&q=%2F", json=CHAT, headers=headers)
    httpx.get(f"{base}/models/a%2Fb", headers=headers)

    (_, called, sent, body), (_, asked, other, _) = upstream.seen
    assert called == "/v1/chat/completions?api-version=1&q=%2F"
    assert json.loads(body) == CHAT
    assert sent["authorization"] == "Bearer sk-live-1"
    assert sent["x-api-key"] == "key-2"
    assert sent["openai-beta"] == "x=1"
    assert sent["x-title"].encode("latin-1").decode() == "Zoë"
    assert sent["accept-encoding"] == "identity"
    assert sent["host"] in upstream.url
    assert "x-hop" not in sent
    assert not [name for name in sent if name.startswith("x-flywheel")]
    assert asked == "/v1/models/a/b"  # as the framework of the upstream shows it
    assert other["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    "path", ["chat/completions/", "/chat/completions", "deployments/gpt/chat/completions?api-version=1"]
)
def test_a_call_is_captured_however_its_path_is_written(desk: Home, through: Through, path: str) -> None:
    upstream = Upstream()
    base = through(upstream)

    assert httpx.post(f"{base}/{path}", json=CHAT).status_code == 200

    assert upstream.seen[0][1] == f"/v1/{path}"
    assert len(exchanges(desk)) == 1


@pytest.mark.parametrize("path", ["%2e%2e/admin", "..%2fadmin", "a%2F..%2f..%2Fadmin", "..%5cadmin", "..;a=b/admin"])
def test_no_path_leads_out_of_the_base_url(through: Through, path: str) -> None:
    upstream = Upstream()
    url = httpx.URL(through(upstream))

    with socket.create_connection((url.host, url.port or 0), timeout=20) as connection:
        connection.sendall(f"GET /w/desk/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert not upstream.seen


def test_what_an_answer_tells_of_its_own_server_is_not_passed_on(desk: Home, through: Through) -> None:
    theirs = {"Date": "Mon, 05 Jan 2026 12:00:00 GMT", "Alt-Svc": 'h3=":443"', "Retry-After": "7"}
    base = through(Upstream(Fail(status=429, error={"message": "slow down"}, headers=theirs)))

    answer = httpx.post(f"{base}/chat/completions", json=CHAT)

    assert answer.headers["retry-after"] == "7"
    assert "alt-svc" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


def test_other_routes_pass_and_are_not_captured(desk: Home, through: Through) -> None:
    upstream = Upstream()
    base = through(upstream)

    assert httpx.get(f"{base}/models").json()["data"][0]["id"] == "scripted-1"
    assert httpx.post(f"{base}/messages/count_tokens", json=MESSAGES).status_code == 200
    assert httpx.post(f"{base}/embeddings", json={"input": "x"}).status_code == 200

    assert exchanges(desk) == []


def test_keys_go_to_the_upstream_and_nowhere_else(desk: Home, through: Through, tmp_path: Path) -> None:
    keys = ["sk-proj-0123456789abcdef", "plain-words-for-a-key"]
    upstream = Upstream(Fail(status=401, error={"message": f"Incorrect API key provided: {keys[0]}"}), Say(text="Hi"))
    base = through(upstream)

    for path in ("chat/completions", "messages", "models"):
        headers = {"Authorization": f"Bearer {keys[0]}", "x-api-key": keys[1]}
        httpx.post(f"{base}/{path}", json=BODIES.get(path, {}), headers=headers)

    assert [headers["x-api-key"] for _, _, headers, _ in upstream.seen] == [keys[1]] * 3
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(exchanges(desk)) == 2
    for path in written:
        data = path.read_bytes()
        assert not any(key.encode() in data for key in keys), path


@pytest.mark.parametrize("path", BODIES)
def test_a_secret_in_two_pieces_of_a_stream_is_not_written(
    desk: Home, through: Through, path: str, tmp_path: Path
) -> None:
    secret = "ghp_" + "0aZ9" * 9
    arguments = json.dumps({"token": secret})
    say = Say(
        text=f"It is {secret} {'-' * 40}", thought=f"Not to tell: {secret}", calls=(("call_1", "log_in", arguments),)
    )
    base = through(Upstream(say, extra={"prompt_token_ids": [1], "token_ids": [2]}))

    answer = httpx.post(f"{base}/{path}", json=BODIES[path] | {"stream": True})

    if path != "responses":  # which says all of it once more
        assert secret.encode() not in answer.content
    (exchange,) = exchanges(desk)
    assert exchange.answers[0][0]["content"].startswith("It is <")
    assert "token_ids" not in exchange.details[0]
    for written in tmp_path.rglob("*"):
        assert not written.is_file() or secret.encode() not in written.read_bytes(), written


def test_errors_are_passed_on_and_captured_as_failures(desk: Home, through: Through) -> None:
    error = {"type": "rate_limit_error", "message": "Slow down, jane@example.com"}
    upstream = Upstream(Fail(status=429, error=error, headers={"retry-after": "7"}), Say(text="Now."))
    base = through(upstream)

    refused = httpx.post(f"{base}/chat/completions", json=CHAT)
    httpx.post(f"{base}/chat/completions", json=CHAT)

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "7"
    assert refused.json() == {"error": error}
    failed, answered = exchanges(desk)
    assert (failed.state, failed.answers, failed.about["status"]) == ("failed", [], 429)
    assert failed.error == "429 rate_limit_error: Slow down, <EMAIL>"
    assert answered.state == "completed"


def test_an_upstream_that_is_not_there_is_told_of(desk: Home, through: Through) -> None:
    upstream = Upstream()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with serving(desk, Config(openai=nowhere, anthropic=nowhere)) as url:
            answer = httpx.post(f"{url}/w/desk/v1/chat/completions", json=CHAT)

    assert answer.status_code == 502
    assert "flywheel serve --openai URL" in answer.json()["error"]["message"]
    (exchange,) = exchanges(desk)
    assert exchange.state == "failed"
    assert upstream.seen == []


def test_an_upstream_that_says_nothing_is_given_up(desk: Home, through: Through) -> None:
    base = through(Upstream(stepwise=True), silence_s=0.2)

    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{base}/chat/completions", json=CHAT | {"stream": True})

    (exchange,) = exchanges(desk)
    assert (exchange.state, exchange.answers) == ("partial", [])


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_that_broke_off_is_partial(desk: Home, through: Through, path: str) -> None:
    base = through(Upstream(Fail(after=BEGUN[path])))

    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{base}/{path}", json=BODIES[path] | {"stream": True})

    (exchange,) = exchanges(desk)
    assert exchange.state == "partial"
    assert "broke off" in exchange.error
    assert exchange.answers[0][0]["content"] == "as far "


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_goes_away_leaves_a_partial_answer_and_the_upstream_is_told(
    desk: Home, through: Through, path: str
) -> None:
    upstream = Upstream(Say(text="as far as this"), stepwise=True)
    base = through(upstream)

    with httpx.stream("POST", f"{base}/{path}", json=BODIES[path] | {"stream": True}, timeout=10) as answer:
        pieces = answer.iter_raw()
        for _ in range(BEGUN[path]):
            upstream.step()
            next(pieces)

    (exchange,) = waited(desk, 1)
    assert (exchange.state, exchange.error) == ("partial", "the client went away")
    assert exchange.answers[0][0]["content"] == "as far "
    assert upstream.hung_up.wait(10)


def test_a_client_that_goes_away_before_the_answer_begins(desk: Home, through: Through) -> None:
    base = through(Upstream(stepwise=True))

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{base}/chat/completions", json=CHAT | {"stream": True}, timeout=0.3)

    (exchange,) = waited(desk, 1)
    assert exchange.error == "the client went away"


def test_a_call_is_named_by_its_path_or_its_headers(desk: Home, through: Through) -> None:
    base = through(Upstream())
    named = base.replace("/v1", "/t/Zo%C3%AB-7/v1")
    headers = {"X-Flywheel-Trajectory": "Zoë-8".encode(), "X-Flywheel-Task": b"fix-1", "X-Flywheel-Agent": b"coder"}

    httpx.post(f"{named}/chat/completions", json=CHAT)
    httpx.post(f"{base}/chat/completions", json=CHAT, headers=headers)
    httpx.post(f"{base}/chat/completions", json=CHAT)
    too_long = httpx.post(f"{base}/chat/completions", json=CHAT, headers={"X-Flywheel-Task": "x" * 201})

    first, second, third = exchanges(desk)
    assert (first.thread, first.named) == ("Zoë-7", True)
    assert (second.thread, second.about["task_id"], second.about["agent"]) == ("Zoë-8", "fix-1", "coder")
    assert (third.thread, third.named) == (third.id, False)
    assert too_long.status_code == 400


def test_a_trajectory_is_ended(desk: Home, through: Through) -> None:
    base = through(Upstream())

    answer = httpx.post(base.replace("/v1", "/t/run-7/end"))

    assert answer.json() == {"trajectory": "run-7"}
    (path,) = journal.paths(desk.journals / "desk")
    ((_, event),) = journal.read(path)[0]
    assert isinstance(event, Closed)
    assert event.thread == "run-7"


def test_a_full_disk_is_told_before_anything_is_passed_on(
    desk: Home, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream()
    base = through(upstream)
    monkeypatch.setattr("flywheel.server.gateway.ROOM", 2**62)

    answer = httpx.post(f"{base}/chat/completions", json=CHAT)

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert upstream.seen == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_kept_is_not_ended(
    desk: Home, through: Through, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    base = through(Upstream())
    full = OSError(28, os.strerror(28))
    monkeypatch.setattr(journal.os, "fsync", lambda _: (_ for _ in ()).throw(full))

    if stream:
        with (
            pytest.raises(httpx.RemoteProtocolError),
            httpx.stream("POST", f"{base}/chat/completions", json=CHAT | {"stream": True}) as answer,
        ):
            said = b""
            for piece in answer.iter_raw():
                said += piece
                assert b"[DONE]" not in said
    else:
        assert httpx.post(f"{base}/chat/completions", json=CHAT).status_code == 503


def test_what_goes_on_from_an_earlier_response_is_told_whole(desk: Home, through: Through) -> None:
    base = through(Upstream(Say(text="One"), Say(text="Two"), Say(text="Three")))

    first = httpx.post(f"{base}/responses", json=RESPONSES | {"instructions": "Be brief."}).json()["id"]
    more = {"input": "More", "instructions": "Be brief."}
    httpx.post(f"{base}/responses", json=RESPONSES | more | {"previous_response_id": first})
    httpx.post(f"{base}/responses", json=RESPONSES | {"previous_response_id": "resp_of_another_time"})

    one, two, three = exchanges(desk)
    assert two.after == one.id
    assert two.messages == [{"role": "user", "content": "More"}]
    assert three.about["previous_response_id"] == "resp_of_another_time"
    assert [message["content"] for message in three.messages] == ["Hi"]


def test_an_answer_longer_than_the_bound_passes_and_is_cut_in_the_record(desk: Home, through: Through) -> None:
    words = "word " * 4000
    base = through(Upstream(Say(text=words)), body_bytes=9000)

    for stream in (True, False):
        answer = httpx.post(f"{base}/chat/completions", json=CHAT | {"stream": stream})
        assert answer.content.count(b"word ") >= 3999

    cut_off = ("partial", "the answer is longer than 9000 bytes: not all of it was kept")
    assert [(exchange.state, exchange.error) for exchange in exchanges(desk)] == [cut_off] * 2


def test_a_packed_answer_passes_packed_and_is_read(desk: Home, through: Through) -> None:
    class Packing(Upstream):
        async def _answer(self, request: Any) -> Any:
            from starlette.responses import Response

            plain = await super()._answer(request)
            headers = {"content-encoding": "gzip"}
            return Response(gzip.compress(bytes(plain.body)), headers=headers, media_type="application/json")

    base = through(Packing())

    with httpx.stream("POST", f"{base}/chat/completions", json=CHAT) as answer:
        assert gzip.decompress(b"".join(answer.iter_raw())).startswith(b"{")

    (exchange,) = exchanges(desk)
    assert exchange.answers[0][0]["content"] == "Hello there."


def test_a_slow_client_holds_the_upstream_back(desk: Home, through: Through) -> None:
    sent = []

    class Pouring(Upstream):
        async def _answer(self, request: Any) -> Any:
            from starlette.responses import StreamingResponse

            async def pour() -> Any:
                for _ in range(400):
                    sent.append(2**17)
                    yield b"data: {}\n\n".ljust(2**17, b":")

            return StreamingResponse(pour(), media_type="text/event-stream")

    base = through(Pouring())
    with httpx.stream("POST", f"{base}/chat/completions", json=CHAT | {"stream": True}, timeout=20) as answer:
        pieces = answer.iter_raw(2**17)
        next(pieces)
        time.sleep(0.5)
        held = sum(sent)
        assert held < 30 * 2**20, "most of the 50 MiB waits at the upstream"
        assert sum(map(len, pieces)) == 399 * 2**17


def test_many_at_once(desk: Home, through: Through) -> None:
    base = through(Upstream())
    said: list[int] = []

    def ask(number: int) -> None:
        body = CHAT | {"messages": [{"role": "user", "content": f"Hi {number}"}], "stream": number % 2 == 0}
        said.append(httpx.post(f"{base}/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert said == [200] * 20
    assert {e.messages[0]["content"] for e in exchanges(desk)} == {f"Hi {number}" for number in range(20)}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 7}', b"\xff\xfe"])
def test_a_request_that_is_none_passes_all_the_same(desk: Home, through: Through, body: bytes) -> None:
    upstream = Upstream(Fail(status=400, error={"message": "what is this"}))

    answer = httpx.post(f"{through(upstream)}/chat/completions", content=body)

    assert answer.status_code == 400
    assert upstream.seen[0][3] == body
    [event] = [event for path in journal.paths(desk.journals / "desk") for _, event in journal.read(path)[0]]
    assert isinstance(event, SetAside)
    assert (event.input.source, event.input.excerpt) == ("gateway chat.completions", body.decode("utf-8", "replace"))


def test_a_call_of_endless_pieces_passes_and_is_not_read(
    desk: Home, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PIECES", 1_000)
    body = b'{"model": "scripted-1", "messages": [' + b'{"role":"user","content":[]},' * 500 + b"{}]}"

    answer = httpx.post(f"{through(Upstream())}/chat/completions", content=body)

    assert answer.status_code == 200
    [event] = [event for path in journal.paths(desk.journals / "desk") for _, event in journal.read(path)[0]]
    assert isinstance(event, SetAside)
    assert event.input.error.startswith("a call of more than 1,000 objects and lists")
    assert event.input.excerpt.startswith('{"model": "scripted-1"')

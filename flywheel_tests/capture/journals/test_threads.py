"""Threads: an exchange is written as what is new in it, redacted, and read back as what was sent."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.capture.importers.dialects import Message
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Exchanged
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.redaction import policy as policies
from flywheel.settings import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def bot(content: str) -> Message:
    return {"role": "assistant", "content": content}


def call(id: str, messages: list[Message], *answers: Message, thread: str = "", **fields: object) -> Exchange:
    exchange = {
        "id": id,
        "thread": thread,
        "named": bool(thread),
        "messages": messages,
        "answers": [[answer] for answer in answers],
        "started_at": NOON,
        "ended_at": NOON + timedelta(seconds=1),
    }
    return Exchange(**(exchange | fields))  # pyright: ignore[reportArgumentType]


def written(home: Home) -> dict[str, Exchange]:
    events = [e for path in journal.paths(home.journals / "desk") for _, e in journal.read(path)[0]]
    return {event.exchange.id: event.exchange for event in events if isinstance(event, Exchanged)}


@pytest.fixture
def writing(desk: Home):
    with Writer(desk, "desk") as writer:
        yield Threads(desk, "desk", writer), writer


def shape(exchange: Exchange) -> tuple[str, str | None, int, list[str]]:
    return exchange.thread, exchange.after, exchange.choice, [m["content"] for m in exchange.messages]


def test_a_call_that_goes_on_from_another_is_written_as_what_is_new(desk: Home, writing) -> None:
    threads, _ = writing
    threads.put(call("a", [user("1")], bot("2"))).result(5)
    threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"))).result(5)
    threads.put(call("c", [user("1"), bot("2"), user("3"), bot("4"), user("5")], bot("6"))).result(5)
    assert [shape(e) for e in written(desk).values()] == [
        ("a", None, 0, ["1"]),
        ("a", "a", 0, ["3"]),
        ("a", "b", 0, ["5"]),
    ]


def test_forks_go_on_from_where_they_part_and_rewritten_histories_are_written_whole(desk: Home, writing) -> None:
    threads, _ = writing
    threads.put(call("a", [user("1")], bot("x"), bot("y"))).result(5)
    threads.put(call("b", [user("1"), bot("y"), user("3")], bot("4"))).result(5)  # the second of two choices
    threads.put(call("c", [user("1"), bot("x"), user("3")], bot("4"))).result(5)
    threads.put(call("d", [user("1"), bot("x"), user("3")], bot("4"))).result(5)  # asked again
    threads.put(call("e", [user("summed up"), user("5")], bot("6"))).result(5)
    threads.put(call("f", [user("1")], bot("z"))).result(5)  # begun again
    found = written(desk)
    assert [shape(found[id]) for id in "abcdef"] == [
        ("a", None, 0, ["1"]),
        ("a", "a", 1, ["3"]),
        ("a", "a", 0, ["3"]),
        ("a", "a", 0, ["3"]),
        ("e", None, 0, ["summed up", "5"]),
        ("f", None, 0, ["1"]),
    ]


def test_a_named_thread_goes_on_from_itself_alone(desk: Home, writing) -> None:
    threads, _ = writing
    threads.put(call("a", [user("1")], bot("2"), thread="one")).result(5)
    threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"), thread="two")).result(5)
    threads.put(call("c", [user("1"), bot("2"), user("3")], bot("4"), thread="one")).result(5)
    threads.put(call("d", [user("1"), bot("2"), user("3")], bot("4"))).result(5)
    found = written(desk)
    assert [(found[id].thread, found[id].after) for id in "abcd"] == [
        ("one", None),
        ("two", None),
        ("one", "a"),
        ("d", None),
    ]


def test_each_journal_stands_alone(desk: Home, writing) -> None:
    threads, writer = writing
    threads.put(call("a", [user("1")], bot("2"))).result(5)
    writer.rotate()
    threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"))).result(5)
    threads.put(call("c", [user("1"), bot("2"), user("3"), bot("4"), user("5")], bot("6"))).result(5)
    found = written(desk)
    assert shape(found["b"]) == ("b", None, 0, ["1", "2", "3"])
    assert shape(found["c"]) == ("b", "b", 0, ["5"])


def test_what_was_not_written_is_not_gone_on_from(desk: Home, writing, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, _ = writing
    threads.put(call("a", [user("1")], bot("2"))).result(5)
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(journal.Full):
            threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"))).result(5)
    threads.put(call("c", [user("1"), bot("2"), user("3"), bot("4"), user("5")], bot("6"))).result(5)
    assert [shape(e) for e in written(desk).values()] == [("a", None, 0, ["1"]), ("a", "a", 0, ["3", "4", "5"])]


def test_placeholders_are_numbered_on_as_if_the_conversation_were_read_whole(desk: Home, writing) -> None:
    threads, writer = writing
    said = [user("I am ann@example.com"), bot("And who is bob@example.com?"), user("cy@example.com knows")]
    threads.put(call("a", said[:1], said[1], bot("dan@example.com?"))).result(5)
    threads.put(call("b", said, bot("ann@example.com and cy@example.com"))).result(5)
    writer.rotate()
    threads.put(call("c", said, bot("ann@example.com and cy@example.com"))).result(5)
    found = written(desk)
    assert [[m["content"] for m in answer] for answer in found["a"].answers] == [
        ["And who is <EMAIL_2>?"],
        ["<EMAIL_2>?"],
    ]
    assert found["b"].messages == [user("<EMAIL_3> knows")]
    assert found["c"].messages == [user("I am <EMAIL>"), bot("And who is <EMAIL_2>?"), user("<EMAIL_3> knows")]
    assert found["b"].answers == found["c"].answers == [[bot("<EMAIL> and <EMAIL_3>")]]
    assert [found[id].about["redactions"]["EMAIL"] for id in "abc"] == [3, 3, 5]


def test_a_journal_that_gives_way_to_another_parts_no_conversation(desk: Home, writing) -> None:
    threads, writer = writing
    thought = {**bot("Who is?"), "reasoning_content": "Not bob@example.com."}
    begun = [user("I am ann@example.com"), bot("Who is?"), user("cy@example.com")]
    threads.put(call("a", begun[:1], thought)).result(5)
    threads.put(call("b", begun, bot("dan@example.com?"))).result(5)
    writer.rotate()
    threads.put(call("c", [*begun, bot("dan@example.com?"), user("No.")], bot("ann@example.com"))).result(5)

    found = written(desk)
    assert found["b"].messages == [user("<EMAIL_3>")]
    assert found["c"].messages == [
        user("I am <EMAIL>"),
        bot("Who is?"),
        user("<EMAIL_3>"),
        bot("<EMAIL_4>?"),
        user("No."),
    ]
    assert found["c"].answers == [[bot("<EMAIL>")]]


@pytest.mark.parametrize("rotated", [False, True])
def test_another_policy_holds_from_the_next_call_on(desk: Home, writing, rotated: bool) -> None:
    threads, writer = writing
    threads.put(call("a", [user("I am ann@example.com")], bot("Hello."))).result(5)
    policies.save(desk, "desk", 'kinds = { EMAIL = "hash" }')
    if rotated:
        writer.rotate()
    threads.put(call("b", [user("I am ann@example.com"), bot("Hello."), user("ann@example.com")], bot("Yes."))).result(
        5
    )

    after = written(desk)["b"]
    assert after.after is None
    assert all(m["content"].count("<EMAIL:") == 1 for m in after.messages[::2])


def test_tokens_that_spell_out_what_was_redacted_are_dropped(desk: Home, writing) -> None:
    threads, _ = writing
    tokens = {"finish_reason": "stop", "token_ids": [1, 2], "logprobs": [-0.5], "prompt_token_ids": [3]}
    kept = threads.put(call("a", [user("who?")], bot("me"), details=[tokens])).result(5)
    assert kept.details == [tokens]
    answered = threads.put(call("b", [user("who?")], bot("ann@example.com"), details=[tokens])).result(5)
    assert answered.details == [
        {"finish_reason": "stop", "prompt_token_ids": [3], "withheld": ["token_ids", "logprobs"]}
    ]
    history = [user("who?"), bot("ann@example.com"), user("no")]
    asked = threads.put(call("c", history, bot("yes"), details=[tokens])).result(5)
    assert asked.after == "b"
    assert asked.details == [
        {"finish_reason": "stop", "token_ids": [1, 2], "logprobs": [-0.5], "withheld": ["prompt_token_ids"]}
    ]


def test_everything_beside_the_messages_is_redacted(desk: Home, writing) -> None:
    threads, _ = writing
    secret = "ann@example.com"
    arguments = f'{{"to": "{secret}", "password": "hunter2"}}'
    calls = [{"id": "1", "function": {"name": "mail", "arguments": arguments}}]
    asked = {"role": "assistant", "content": None, "reasoning_content": f"thinks of {secret}", "tool_calls": calls}
    threads.put(
        call(
            "a",
            [user([{"type": "text", "text": secret}])],  # pyright: ignore[reportArgumentType]
            asked,
            tools=[{"type": "function", "function": {"name": "mail", "description": secret}}],
            details=[{"refusal": secret}],
            error=f"no {secret}",
            about={"user": secret, "parameters": {"temperature": 0.5}},
        )
    ).result(5)
    [path] = journal.paths(desk.journals / "desk")
    assert secret.encode() not in path.read_bytes() and b"hunter2" not in path.read_bytes()
    found = written(desk)["a"]
    assert found.error == "no <EMAIL>" and found.about["parameters"] == {"temperature": 0.5}


def test_calls_at_the_same_time_are_all_kept(desk: Home, writing) -> None:
    threads, _ = writing
    threads.put(call("root", [user("1")], bot("2"), thread="t")).result(5)

    async def all_at_once() -> None:
        history = [user("1"), bot("2")]
        await asyncio.gather(
            *(threads.add(call(str(n), [*history, user(str(n))], bot("ok"), thread="t")) for n in range(100))
        )

    asyncio.run(all_at_once())
    found = written(desk)
    assert len(found) == 101
    assert {e.after for id, e in found.items() if id != "root"} == {"root"}


def test_a_long_history_costs_little_more_than_its_hash(desk: Home, writing) -> None:
    threads, _ = writing
    history: list[Message] = []
    took = []
    for turn in range(100):  # 200 kB in the end
        history.append(user(f"{turn} " + "word " * 200))
        answer = bot(f"{turn} " + "said " * 200)
        began = time.process_time()
        threads.put(call(str(turn), list(history), answer)).result(5)
        took.append(time.process_time() - began)
        history.append(answer)
    [path] = journal.paths(desk.journals / "desk")
    assert path.stat().st_size < 300_000
    assert sorted(took)[50] < 0.02  # seconds; about 1 ms on a quiet machine

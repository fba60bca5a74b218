"""What is taken for a secret, what is not, and that JSON stays JSON."""

import base64
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.redaction.redact import Redactor, unfinished
from flywheel.schema import Outcome, Step, ToolCall, Trajectory
from flywheel_tests.plants import plants

# Put together here, so that no scanner of this repository takes the examples for keys.
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
OPENAI = "sk-" + "proj-abcdefghijklmnopqrstuvwxyz0123"
GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("write to mia.li3818@example.com today", "write to <EMAIL> today"),
        ("call (555) 234-5678 or 555-234-5678", "call <PHONE> or <PHONE>"),
        ("call +44 20 7946 0958 now", "call <PHONE> now"),
        ("call 415-555-0132 x12", "call <PHONE>"),
        ("card 4111 1111 1111 1111.", "card <CARD>."),
        ("card 378282246310005", "card <CARD>"),
        ("ssn 536-22-8145", "ssn <SSN>"),
        ("to GB82 WEST 1234 5698 7654 32 please", "to <IBAN> please"),
        ("DE89370400440532013000", "<IBAN>"),
        (f"export KEY={AWS}", "export KEY=<AWS_KEY>"),
        (f"use {OPENAI}, not {GITHUB}", "use <OPENAI_KEY>, not <GITHUB_TOKEN>"),
        ("Authorization: Bearer abcDEF123456ghiJKL789", "Authorization: Bearer <TOKEN>"),
        (f"token {JWT}", "token <JWT>"),
        (f"here:\n{KEY}\nthanks", "here:\n<PRIVATE_KEY>\nthanks"),
        ("postgres://app:s3cr3tpw@db.local/x", "postgres://app:<PASSWORD>@db.local/x"),
        ("DB_PASSWORD=hunter2-long", "DB_PASSWORD=<PASSWORD>"),
        ("the password is hunter22", "the password is <PASSWORD>"),
        ("password: correct4horse", "password: <PASSWORD>"),
        ("('o'neil@x.org', 'ann%40x.org')", "('<EMAIL>', '<EMAIL_2>')"),
        ("PRIVATE-TOKEN: " + "glpat-" + "x1" * 40, "PRIVATE-TOKEN: <GITLAB_TOKEN>"),
        ("login --token abcdef1234567890", "login --token <PASSWORD>"),
        ("Authorization: Basic dXNlcjpodW50ZXIy", "Authorization: Basic <BASIC_AUTH>"),
        ("from 8.8.4.4 and 2001:4860:4860::8888 to 10.0.0.1", "from <IP> and <IP_2> to 10.0.0.1"),
        ("tel. 06 12 34 56 78, passport no. 123456789", "tel. <PHONE>, passport no. <PASSPORT>"),
        ("my SSN is 536228145", "my SSN is <SSN>"),
        ("PESEL: 44051401359, 44051401350", "PESEL: <PL_PESEL>, 44051401350"),
    ],
)
def test_secrets_give_way_to_typed_placeholders(text: str, clean: str) -> None:
    assert Redactor().text(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "order #W2378156 for $1,204.50, flight HAT123 on 2024-05-15 at 15:00:00",
        "reservation EHGLP3, certificate_7504069, credit_card_4421486",
        "4111 1111 1111 1112 has a wrong checksum",
        "1700000000000000 microseconds, 1700000000000 milliseconds",
        "DE89370400440532013001 has a wrong checksum",
        "SELECT name FROM players WHERE id = 2147483647 ORDER BY price",
        "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] 200 2326",
        "f32a3a97638afeb2ee2a15cfe335ab72  /testbed/Hello.java",
        "password: please choose one; password=$PASSWORD; password = getpass()",
        "the bearer of good news, and a key: value pair",
        "task-list, disk-usage and desk-bot-with-a-long-name",
        "@decorator and npm i left-pad@1.3.0",
        "git@github.com:a/b, getty@tty1.service",
        "version 1.2.3, netmask 255.255.255.0, 127.0.0.1:8080, std::string, 12:34:56",
        "the token count is 1234, the secret ingredient: butter",
        "44051401359 is a PESEL without the word before it",
        "$2.500.000-12, 2024-01-02-03, 756-1234",
    ],
)
def test_ordinary_ids_prices_and_dates_stay(text: str) -> None:
    assert Redactor().text(text) == text


def test_one_value_has_one_placeholder_throughout_a_trajectory() -> None:
    redactor = Redactor()
    steps = [
        redactor.step(Step(role="user", content="I am ann@x.org, my wife is eve@x.org")),
        redactor.step(
            Step(
                role="assistant",
                tool_calls=(ToolCall(id="1", name="find", arguments='{"email":  "Eve@x.org", "n": 1.50}'),),
            )
        ),
    ]
    assert steps[0].content == "I am <EMAIL>, my wife is <EMAIL_2>"
    assert steps[1].tool_calls[0].arguments == '{"email":  "<EMAIL_2>", "n": 1.50}'
    assert redactor.counts == {"EMAIL": 3}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"password": "summer", "user": "ann"}', '{"password": "<PASSWORD>", "user": "ann"}'),
        ('{"note": "\\nann@x.org"}', '{"note": "\\n<EMAIL>"}'),
        ('{"mail": "ann\\u0040x.org"}', '{"mail": "<EMAIL>"}'),
        ('{"url": "https:\\/\\/u:pa55@h\\/"}', '{"url": "https://u:<PASSWORD>@h/"}'),
        ('{"card": 4111111111111111}', '{"card": "<CARD>"}'),
        ('{"api_key": null, "next": "x"}', '{"api_key": null, "next": "x"}'),
        ('{"broken": "ann@x.org"', '{"broken": "<EMAIL>"'),
        ('{"broken": "ann\\u0040x.org", "to": "eve\\u0040x.org', '{"broken": "<EMAIL>", "to": "<EMAIL_2>'),
        ('{"ssn": 536228145, "n": 536228145}', '{"ssn": "<SSN>", "n": "<SSN>"}'),
        (
            '{"openaiApiKey": "summer", "Authorization": "abc"}',
            '{"openaiApiKey": "<PASSWORD>", "Authorization": "<PASSWORD_2>"}',
        ),
        ('{"token": "Paris", "logprob": -0.5}, "next', '{"token": "Paris", "logprob": -0.5}, "next'),
        ('{"token": "a1b2c3d4e5f6", "max_tokens": 4096}', '{"token": "<PASSWORD>", "max_tokens": 4096}'),
        ('{"pin_code": 1, "password": 12345}', '{"pin_code": 1, "password": "<PASSWORD>"}'),
        ('{"phone": "0612345678", "id": "0612345679"}', '{"phone": "<PHONE>", "id": "0612345679"}'),
        ('{"ann@x.org": 1, "eve@x.org": 2}', '{"<EMAIL>": 1, "<EMAIL_2>": 2}'),
        ('{"args": "{\\"api_key\\": \\"a1\\\\u0042c\\"}"}', '{"args": "{\\"api_key\\": \\"<PASSWORD>\\"}"}'),
        ('{"authorization_token": "opaque-1"}', '{"authorization_token": "<PASSWORD>"}'),  # of an MCP server
        ("[NaN, 1e999, 12345678901234567890123456789]", "[NaN, 1e999, 12345678901234567890123456789]"),
    ],
)
def test_json_stays_json_and_changes_only_where_it_must(text: str, clean: str) -> None:
    assert Redactor().json(text) == clean


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["ann@x.org", AWS, "password=abcd1", KEY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON_VALUES, st.booleans())
def test_any_json_stays_json_without_the_secrets(value: Any, ascii_only: bool) -> None:
    clean = Redactor().json(json.dumps(value, ensure_ascii=ascii_only))
    json.loads(clean)
    assert "ann@x.org" not in clean
    assert AWS not in clean


@settings(deadline=None)
@given(st.text())
def test_redacting_again_changes_nothing(text: str) -> None:
    once = Redactor().text(text)
    assert Redactor().text(once) == once


@given(st.lists(st.sampled_from(["Hi.", "I am ann@x.org", "eve@x.org, my SSN is 536228145", '{"n": 536228145}', AWS])))
def test_a_conversation_is_redacted_alike_whatever_follows(texts: list[str]) -> None:
    whole = Redactor()
    clean = [whole.text(text) for text in texts]
    for length in range(len(texts)):
        part = Redactor()
        assert [part.text(text) for text in texts[:length]] == clean[:length]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.text(max_size=20), st.text(max_size=20))
def test_plants_in_any_text_are_found_once_and_for_all(seed: int, before: str, after: str) -> None:
    [plant] = plants(seed, 1)
    text = f"{before}\n{plant.text}\n{after}"
    clean = Redactor().text(text)
    assert plant.value not in clean
    assert Redactor().text(clean) == clean
    quoted = json.dumps({"said": text, "deep": json.dumps([text])})
    clean = Redactor().text(quoted)
    assert Redactor().text(clean) == clean
    assert plant.value not in repr(json.loads(clean))


def test_redactors_do_not_wait_for_one_another() -> None:
    """Nor does a fork's for one that another thread of its parent was at."""
    numbering, done = threading.Event(), threading.Event()

    class Slow(Counter[str]):
        def __getitem__(self, kind: str) -> int:
            numbering.set()
            done.wait(10)
            return super().__getitem__(kind)

    one = Redactor()
    one._kinds = Slow()
    threads = [threading.Thread(target=each.text, args=("I am ann@x.org",)) for each in (one, Redactor())]
    threads[0].start()
    assert numbering.wait(10)
    threads[1].start()
    threads[1].join(5)
    waits = threads[1].is_alive()
    done.set()
    for thread in threads:
        thread.join()
    assert not waits


def test_threads_may_share_a_redactor() -> None:
    redactor, found = Redactor(), dict[int, str]()

    def say(n: int) -> None:
        found[n] = redactor.text(f"I am user{n}@x.org, my password is abcd{n}efgh")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(400)))
    assert len(set(found.values())) == 400
    assert redactor.counts == {"EMAIL": 400, "PASSWORD": 400}


def test_names_are_hashed_so_that_what_has_one_name_keeps_one() -> None:
    first, again, other = (Redactor().identifier(name) for name in ("ann@x.org", "Ann@x.org", "eve@x.org"))
    assert re.fullmatch("<EMAIL:[0-9a-f]{12}>", first)
    assert first == again != other
    assert Redactor().identifier(first) == first
    assert Redactor().identifier("desk-bot 1.2.3") == "desk-bot 1.2.3"


def test_tokens_that_spell_out_what_was_replaced_are_withheld() -> None:
    redactor = Redactor()
    about = json.dumps(
        {"token_ids": [1], "prompt_token_ids": [2], "logprobs": [{"token": "x"}], "finish_reason": "stop"}
    )
    assert redactor.step(Step(role="assistant", content="Hi.", metadata=about)).metadata == about
    found = redactor.step(Step(role="assistant", content="I am ann@x.org", metadata=about)).metadata
    assert json.loads(found) == {"finish_reason": "stop", "withheld": ["logprobs", "prompt_token_ids", "token_ids"]}
    later = redactor.step(Step(role="assistant", content="Bye.", metadata=about)).metadata
    assert "token_ids" in json.loads(later) and json.loads(later)["withheld"] == ["prompt_token_ids"]


def test_of_an_excerpt_that_was_cut_the_last_word_goes() -> None:
    redactor = Redactor()
    assert redactor.excerpt('{"to": "ann@x.org"', 200) == '{"to": "<EMAIL>"'
    assert redactor.excerpt('{"key": "sk-abc12', 17) == '{"key": "…'
    assert redactor.excerpt("pay with card 4111 1111 11", 26) == "pay with card …"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"\x1b[31m{GITHUB}\x1b[0m", "\x1b[31m<GITHUB_TOKEN>\x1b[0m"),
        (rf"\033[1;32m{GITHUB[:12]}\033[0m{GITHUB[12:]}", r"\033[1;32m<GITHUB_TOKEN>"),
        ("/pay?card=4111+1111+1111+1111&tel=%2B1%20415-555-2671", "/pay?card=<CARD>&tel=<PHONE>"),
        ("?login=ann%2540x.org%26password%3Dsummer-17 ok", "?login=<EMAIL>%26password%3D<PASSWORD> ok"),
        ("mail ann&#64;x&#x2e;org, ann&commat;x.org", "mail <EMAIL>, <EMAIL>"),
        (r"grep 'ann\.smith\@x\.org' and " + OPENAI.replace("-", r"\-"), "grep '<EMAIL>' and <OPENAI_KEY>"),
        (r"b'\x00' ann\x40x.org or ann\\u0040x.org", r"b'\x00' <EMAIL> or <EMAIL>"),
        ("a\u200bnn@x.o\u00adrg, ａnn＠x．org, ann\0@x.org", "<EMAIL>, <EMAIL>, <EMAIL>"),
        ("4111\u00a01111\u00a01111\u00a01111 or 4111\u20111111\u20111111\u20111111", "<CARD> or <CARD>"),
        ("data: aGVyZSBpcyBhbm5AeC5vcmcgYW5kIG1vcmU=.", "data: <EMAIL>."),
        ("my ssn\u00a0is 536228145, I said 536228145", "my ssn\u00a0is <SSN>, I said <SSN>"),
        (r"100%25 of a\_b &amp; c&#8217;s 1+1 in /usr/lib/python3/site/packages/x", None),
        ("\x1b[1mbold\x1b[0m família 👩\u200d👧 ﷽ 12\u00a0345 SGVsbG8gd29ybGQsIGhlcmUgSSBhbQ==", None),
    ],
)
def test_what_reads_as_a_secret_is_one_however_it_is_written(text: str, clean: str | None) -> None:
    assert Redactor().text(text) == (clean or text)


SPELLINGS = (
    *(r"grep 'ann\.smith\@x\.org'", "ann%40x.org", "ann&#64;x.org", r"ann\x40x.org", r"ann\u0040x.org", "ann＠x.org"),
    *("\x1b[1mann@x.org\x1b[0m", "\x1b[31m" + GITHUB, "a\u200bnn@x.org", "aGVyZSBpcyBhbm5AeC5vcmcgYW5kIG1vcmU="),
)


@pytest.mark.parametrize("text", SPELLINGS)
def test_within_json_it_is_found_too(text: str) -> None:
    for plain in (True, False):
        once = json.dumps({"cmd": text}, ensure_ascii=plain)
        for whole in (once, json.dumps([once], ensure_ascii=plain), once[:-1]):
            clean = Redactor().json(whole)
            assert "<EMAIL>" in clean or "<GITHUB_TOKEN>" in clean


def test_however_it_is_written_a_value_has_one_hash() -> None:
    redactor = Redactor()
    names = {redactor.identifier(name) for name in ("ann@x.org", "ann%40x.org", "ann&#64;x.org", "ann＠x.org")}
    assert len(names) == 1


@given(st.text(alphabet="ab@.x%2540\\u00&#;+\x1b[m_\u200b＠ 41=", max_size=60))
def test_what_was_redacted_stays_as_it_is(text: str) -> None:
    clean = Redactor().text(text)
    assert Redactor().text(clean) == clean


SLOWEST = {
    "spelt out": "ann%40x%2eorg " * 7_000,
    "packed": "aGVyZSBpcyBhbm5AeC5vcmcgYW5kIG1vcmU " * 2_700,
    "coloured": "\x1b[31mann@x.org\x1b[0m" * 5_000,
    "invisible": "\u200b" * 100_000,
    "picture": base64.b64encode(random.Random(7).randbytes(1_000_000)).decode(),
    "long words": ("A" * 4000 + " ") * 250,
    "backslashes": "\\" * 100_000,
    "entities": "&amp;" * 20_000,
    "at": "a@" * 50_000,
    "names of keys": "sk-" * 30_000 + "T3BlbkFJ",
    "parts of tokens": "-eyJaaaaaaaa" * 8_000,
    "quotes": '["' + '\\"' * 50_000 + "\\",
    "digits": "1 " * 50_000,
    "nesting": "[" * 100_000,
    "npm": "//" * 50_000 + ":_authToken=",
    "begun keys": "-----BEGIN PRIVATE KEY-----" * 4_000,
    "hits": '{"password":"abcd12345"}' * 2_000,
}


@pytest.mark.parametrize("text", SLOWEST.values(), ids=SLOWEST)
def test_no_text_stalls_it(text: str) -> None:
    began = time.process_time()
    Redactor().text(text)
    unfinished(text + "!")
    assert time.process_time() - began < 2


def test_beside_a_picture_everything_is_found() -> None:
    picture = base64.b64encode(random.Random(7).randbytes(30_000)).decode()
    told = base64.b64encode(b"my mail is ann@x.org " * 1_000).decode()
    text = f"ann@x.org sent data:image/png;base64,{picture} and {told} for eve@x.org"
    clean = f"<EMAIL> sent data:image/png;base64,{picture} and <EMAIL_2> for <EMAIL_3>"
    assert Redactor().text(text) == clean
    assert json.loads(Redactor().json(json.dumps({"said": text}))) == {"said": clean}


def test_every_text_of_a_trajectory_and_an_outcome_is_redacted() -> None:
    secret, now = "ann@x.org", datetime(2026, 1, 5, tzinfo=UTC)
    trajectory = Trajectory(
        id=secret,
        workspace="desk",
        task_id=secret,
        task_group=secret,
        task_type=secret,
        agent=secret,
        agent_version=secret,
        model=secret,
        provider=secret,
        tools=json.dumps([{"description": secret}]),
        end_state="completed",
        arrived_at=now,
        source=secret,
        metadata=json.dumps({"by": secret, secret: 1}),
        steps=(
            Step(role="user", content=secret, metadata=json.dumps({"by": secret})),
            Step(
                role="assistant",
                reasoning=secret,
                tool_calls=(ToolCall(id=secret, name=secret, arguments=json.dumps({"to": secret})),),
            ),
            Step(role="tool", content=json.dumps([secret]), tool_call_id=secret, tool_name=secret),
        ),
    )
    outcome = Outcome(
        workspace="desk",
        trajectory_id=secret,
        signal=secret,
        value=1.0,
        source=secret,
        checker_version=secret,
        observed_at=now,
        arrived_at=now,
        comment=secret,
    )
    redactor = Redactor()
    clean, told = redactor.trajectory(trajectory), redactor.outcome(outcome)
    assert secret not in repr(clean) + repr(told)
    assert told.trajectory_id == clean.id
    assert clean.steps[1].tool_calls[0].id == clean.steps[2].tool_call_id
    assert json.loads(clean.metadata)["redactions"] == {"EMAIL": 21}
    assert redactor.counts == {"EMAIL": 26}
    assert redactor.trajectory(clean) == clean


def test_lone_surrogates_become_question_marks() -> None:
    assert Redactor().text("a\ud800b") == "a?b"
    assert Redactor().json('{"a\ud800": 1}') == '{"a?": 1}'


# What marks a line that may well hold a secret or personal data; the others are clean.
LOOKS_SECRET = re.compile(
    r"@|\d{3}.\d{3}.\d{4}|\(\d{3}\)|\+\d|pass|pwd|secret|token|bearer|private key|\bsk-|AKIA|phone|mobile", re.I
)


def test_at_most_a_twentieth_of_the_clean_lines_of_real_logs_changes(shared_data: Path) -> None:
    """Of each data set; the aim is none, and in all of them together it is."""
    changed: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for path in sorted(shared_data.rglob("*.json*")):
        redactor = Redactor()
        lines = [line for text in texts(path) for line in text.splitlines()]
        clean = [line for line in dict.fromkeys(lines) if line.strip() and not LOOKS_SECRET.search(line)]
        counts[path.parent.name] += len(clean)
        changed.setdefault(path.parent.name, []).extend(line for line in clean if redactor.text(line) != line)
    assert counts.total() > 30_000
    for name, found in changed.items():
        assert len(found) <= 0.05 * counts[name], (name, found[:10])
    assert sum(map(len, changed.values())) <= 5, changed


def texts(path: Path) -> Iterator[str]:
    """All texts of a file of JSON or JSON Lines, but for keys."""
    data = path.read_bytes()
    todo: list[Any] = (
        [json.loads(line) for line in data.splitlines()] if path.suffix == ".jsonl" else [json.loads(data)]
    )
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str):
            yield value

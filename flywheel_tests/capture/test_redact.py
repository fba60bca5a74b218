"""What is taken for a secret, what is not, and that JSON stays JSON."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.redact import Redactor
from flywheel.schema import Outcome, Step, ToolCall, Trajectory

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


def test_every_text_of_a_trajectory_and_an_outcome_is_redacted() -> None:
    secret, now = "ann@x.org", datetime(2026, 1, 5, tzinfo=UTC)
    trajectory = Trajectory(
        id="t",
        workspace="desk",
        task_id="1",
        task_group="1",
        task_type="desk",
        agent="a",
        tools=json.dumps([{"description": secret}]),
        end_state="completed",
        arrived_at=now,
        source="test",
        metadata=json.dumps({"by": secret}),
        steps=(
            Step(role="user", content=secret, metadata=json.dumps({"by": secret})),
            Step(
                role="assistant",
                reasoning=secret,
                tool_calls=(ToolCall(id="1", name="f", arguments=json.dumps({"to": secret})),),
            ),
            Step(role="tool", content=json.dumps([secret]), tool_call_id="1"),
        ),
    )
    outcome = Outcome(
        workspace="desk",
        trajectory_id="t",
        signal="s",
        value=1.0,
        source="p",
        observed_at=now,
        arrived_at=now,
        comment=secret,
    )
    redactor = Redactor()
    stored = repr(redactor.trajectory(trajectory)) + repr(redactor.outcome(outcome))
    assert secret not in stored
    assert redactor.counts == {"EMAIL": 8}


def test_lone_surrogates_become_question_marks() -> None:
    assert Redactor().text("a\ud800b") == "a?b"
    assert Redactor().json('{"a\ud800": 1}') == '{"a?": 1}'


LOOKS_SECRET = re.compile(
    r"@|\d{3}.\d{3}.\d{4}|\(\d{3}\)|\+\d|pass|pwd|secret|token|bearer|private key|\bsk-|AKIA", re.I
)


def test_clean_lines_of_real_logs_stay_as_they_are(shared_data: Path) -> None:
    """At most 5 % of the lines without any mark of a secret may change; the aim is none."""
    texts: list[str] = []
    for run in json.loads((shared_data / "tau-bench" / "gpt-4o-airline.json").read_bytes())[::4]:
        texts += [message["content"] for message in run["traj"] if message["content"]]
    for name in ("bash/gpt-4", "sql/gpt-4"):
        for episode in list(json.loads((shared_data / "intercode" / f"{name}.json").read_bytes()).values())[::4]:
            texts += episode["turn_history"]["actions"] + episode["turn_history"]["observations"]
    clean = [line for text in texts for line in text.splitlines() if not LOOKS_SECRET.search(line)]
    changed = [line for line in clean if Redactor().text(line) != line]
    assert len(clean) > 5_000
    assert len(changed) <= 0.05 * len(clean), changed[:10]
    assert len(changed) <= 5, changed[:10]

"""Posting over HTTP: how long a server asks to be left alone."""

from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime

import pytest

from flywheel.capture.posting import LONGEST, retry_after


def headers(text: str | None) -> Message:
    made = Message()
    if text is not None:
        made["Retry-After"] = text
    return made


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("\xb2", None),  # a digit, to Python
        ("0", 0.0),
        (" 7 ", 7.0),
        ("9" * 400, LONGEST),
        ("Mon, 05 Jan 2026 12:00:00 GMT", 0.0),  # is over
        ("Mon, 05 Jan 9999 12:00:00 GMT", LONGEST),
        ("Mon, 05 Jan 2026 12:00:00 -0000", None),  # tells no zone
        ("Mon, 05 Jan 99999999 12:00:00 GMT", None),
    ],
)
def test_a_server_says_when_to_come_again_as_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after(headers(text)) == seconds


def test_a_date_is_told_from_now() -> None:
    found = retry_after(headers(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)))
    assert found is not None and 85 < found <= 90

"""Posting over HTTP, with nothing but the standard library: what may be tried again, and when."""

from __future__ import annotations

import urllib.request
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError

# Statuses of servers that are busy, or whose neighbours are.
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
# Seconds that a server is left alone for at most: clocks may be wrong by years.
LONGEST = 3600.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would make a GET of what is posted, and hand its token to another server: it is an answer, and no."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def answered(request: urllib.request.Request, timeout: float) -> HTTPResponse:
    """The answer to a request, to be closed; it begins within so many seconds, and is never silent for longer.

    Raises:
        urllib.error.HTTPError: for every status that is no success, redirects among them.
        OSError, http.client.HTTPException: where there is none.
    """
    return urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout)


def said(error: HTTPError, most: int = 1_000) -> str:
    """How the body of an error begins; its reason, where that cannot be read."""
    try:
        return error.read(most).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return str(error.reason)


def retry_after(headers: Message) -> float | None:
    """Seconds that a server asks to wait, by RFC 9110 (10.2.3): a number, or a date; None where it does not say."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST, float(text))
    try:
        left = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(LONGEST, max(0.0, left))

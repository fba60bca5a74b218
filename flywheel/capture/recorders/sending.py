"""Sending: records of a workspace go to a server over HTTP, and are there when it has acknowledged them."""

from __future__ import annotations

import gzip
import http.client
import urllib.error
import urllib.request
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import msgspec

from flywheel.capture.posting import RETRIED, answered, retry_after, said
from flywheel.schema import FlywheelError

TIMEOUT = 60.0  # seconds that the server may take to answer

Kind = Literal["trajectories", "outcomes"]


class Unreachable(FlywheelError):
    """The server cannot take it now. Try again, after `retry_after` seconds where it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(FlywheelError):
    """The server will not take it, however often it is tried: somebody must look. The spool keeps it."""


class _Received(msgspec.Struct):
    quarantined: list[dict[str, Any]]


class Server:
    """A server's routes for what comes into one workspace."""

    def __init__(self, url: str, workspace: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise FlywheelError(f"{url!r} is no server's address; write it as https://flywheel.example.org")
        self.url, self.workspace, self._token = url.rstrip("/"), workspace, token

    def post(self, kind: Kind, lines: list[bytes]) -> list[dict[str, Any]]:
        """Send records; returns when the server has them on disk, with those that it set aside.

        Raises:
            Unreachable: when it did not answer, or asks to come again.
            Refused: when it answered no.
        """
        body = gzip.compress(b"\n".join(lines), 1)
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        path = f"/api/v1/workspaces/{quote(self.workspace, safe='')}/{kind}"
        request = urllib.request.Request(self.url + path, body, headers, method="POST")  # noqa: S310  # checked above
        try:
            with answered(request, TIMEOUT) as answer:
                return msgspec.json.decode(answer.read(), type=_Received).quarantined
        except urllib.error.HTTPError as error:
            with error:
                told = f"{self.url} answered {error.code}: {_message(error)}"
                if error.code in RETRIED:
                    raise Unreachable(told, retry_after(error.headers)) from None
            raise Refused(told) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url} cannot be reached: {getattr(error, 'reason', error)}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(f"{self.url} answers as no flywheel server does; is the address right?") from error


def _message(error: urllib.error.HTTPError) -> str:
    """What a server of flywheel's said of an error; of another's answer its reason."""
    try:
        return msgspec.json.decode(said(error, 10_000))["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return str(error.reason)

"""Upstreams: the servers of models that calls are passed on to, over HTTP, and the pieces of their answers."""

from __future__ import annotations

from typing import Protocol

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, ConnectionTimeoutError
from multidict import CIMultiDict
from yarl import URL

from flywheel.schema import FlywheelError

# What is between two neighbours alone (RFC 9110, 7.6.1), and what the client of each side writes by itself.
HOPS = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade expect host content-length".split()
)
# What an answer tells of its own server alone: this one has a date, and is reached another way.
THEIRS = frozenset(b"date alt-svc strict-transport-security".split())
OURS = b"x-flywheel-"
AUTOMATIC = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})

Headers = list[tuple[bytes, bytes]]


class Away(FlywheelError):
    """An upstream that gives no answer, or no more of it."""


class Asking(msgspec.Struct, frozen=True):
    """A request as it is passed on: `path` is what follows the base URL, with its query, as the client wrote it."""

    method: str
    path: str
    headers: Headers
    body: bytes


class Reply(Protocol):
    """An answer that is under way."""

    status: int
    headers: Headers

    def header(self, name: bytes) -> str:
        """A header, or nothing."""
        ...

    async def piece(self) -> bytes:
        """The next bytes, as they come; none at the end. Raises Away where it broke off."""
        ...

    def close(self) -> None:
        """Have no more of it."""
        ...


class Upstream(Protocol):
    """Whoever answers."""

    url: str

    async def ask(self, asking: Asking) -> Reply:
        """Pass a request on; the answer is there when it begins. Raises Away where there is none."""
        ...


class Remote:
    """A server at a base URL. `silence_s` is for how many seconds it may say nothing."""

    def __init__(self, session: ClientSession, url: str, *, silence_s: float) -> None:
        self.url = url.rstrip("/")
        self._session = session
        self._timeout = ClientTimeout(total=None, sock_connect=10, sock_read=silence_s)

    async def ask(self, asking: Asking) -> Reply:
        """Pass a request on."""
        headers = CIMultiDict((name.decode("latin-1"), text(value)) for name, value in asking.headers)
        try:
            response = await self._session.request(
                asking.method,
                URL(self.url + asking.path, encoded=True),
                headers=headers,
                data=asking.body or None,
                allow_redirects=False,
                skip_auto_headers=AUTOMATIC,
                timeout=self._timeout,
            )
        except (ClientError, OSError, TimeoutError) as error:
            raise self._away(error, "gave no answer") from error
        return _Answer(response, self)

    def _away(self, error: Exception, what: str) -> Away:
        if isinstance(error, ConnectionTimeoutError):
            what = "could not be reached within 10 s"
        elif isinstance(error, TimeoutError):
            what = f"{what} for {self._timeout.sock_read:g} s"
        else:
            what = f"{what} ({type(error).__name__}: {getattr(error, 'strerror', None) or 'the connection was closed'})"
        shown = URL(self.url).with_user(None).with_query(None)  # what is between may be a password
        return Away(
            f"the upstream {shown} {what}: see that it runs and that this server reaches it; it is set with "
            "`flywheel serve --openai URL --anthropic URL`"
        )


class _Answer:
    def __init__(self, response: ClientResponse, remote: Remote) -> None:
        self.status = response.status
        self.headers = passed(response.raw_headers, answer=True)
        self._response, self._remote = response, remote

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for header, value in self.headers if header == name), "")

    async def piece(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (ClientError, OSError, TimeoutError) as error:
            raise self._remote._away(error, "broke off") from error

    def close(self) -> None:
        self._response.close()


def text(value: bytes) -> str:
    """A header as text: as UTF-8, which is how it will be written again, where it is that."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def passed(headers: Headers | tuple[tuple[bytes, bytes], ...], *, answer: bool = False) -> Headers:
    """The headers that are passed on, names in lower case. Of an answer, its length too: its bytes stay as they are."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {hop.strip().lower() for name, value in lowered if name == b"connection" for hop in value.split(b",")}
    gone = ((HOPS | THEIRS) - {b"content-length"} if answer else HOPS) | named
    return [(name, value) for name, value in lowered if name not in gone and not name.startswith(OURS)]

"""What stands around every request: its number, headers of safety, a line in the log, and an answer whatever fails."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.server.errors import answer
from flywheel.server.logs import told

log = logging.getLogger("flywheel.server")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
UNSEEN = (0, 400, 401, 403, 404)
GONE = 499  # in the log: the client went away before its answer was whole


class Outermost:
    """Numbers requests, adds `HEADERS` where an answer has none of its own, and logs one line a request.

    A line names route, workspace, status and time: never a path as it was sent, a query, a header or a body. Of an
    error that nobody expected the log has its kind and place; its message may say what somebody wrote.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self._clock = app, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id = scope["flywheel.request"] = uuid.uuid4().hex[:16]
        began, status, whole = self._clock(), 0, False

        async def sent(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Flywheel-Request"] = id
            elif message["type"] == "http.response.body":
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("request failed: %s", told(error), extra={"fields": {"request": id}})
            if not status:
                await answer(500, "the server failed; nothing is known of your request but its id", id)(
                    scope, receive, sent
                )
        finally:
            fields = {
                "request": id,
                "method": scope["method"] if scope["method"] in METHODS else "?",
                "route": getattr(scope.get("route"), "path", None),
                # Before a request was let through, the name may be anything.
                "workspace": None if status in UNSEEN else scope.get("path_params", {}).get("workspace"),
                "status": status if whole else GONE,
                "seconds": round(self._clock() - began, 4),
            }
            log.info("request", extra={"fields": fields})

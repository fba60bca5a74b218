"""`POST /w/WORKSPACE/github`: deliveries of a webhook of GitHub's, known by their signature."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote_plus

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from flywheel.capture import quarantine, strict
from flywheel.capture.audit import audit
from flywheel.capture.feedback import github
from flywheel.capture.feedback.github import Heard
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.journals.events import SetAside, Told
from flywheel.schema import FlywheelError
from flywheel.server.describing import JSON, answers, takes
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.settings import NAME

router = APIRouter(tags=["outcomes"])

FORM = "application/x-www-form-urlencoded"


class Delivered(msgspec.Struct, frozen=True):
    """How many outcomes a delivery told, on disk now; or why it told none."""

    outcomes: int
    ignored: str = ""


@router.post(
    "/w/{workspace}/github",
    responses=answers(Delivered, "It told something.") | answers(Delivered, "It told nothing.", status=202),
    openapi_extra=takes({JSON: dict[str, Any], FORM: str}),
)
async def delivered(
    request: Request,
    workspace: str,
    here: Annotated[Running, Depends(running)],
    event: Annotated[str, Header(alias="X-GitHub-Event", description="What happened: pull_request, push, ping.")] = "",
    signature: Annotated[
        str | None, Header(alias="X-Hub-Signature-256", description="sha256=HMAC of the body.")
    ] = None,
    delivery: Annotated[str, Header(alias="X-GitHub-Delivery", description="The id of the delivery.")] = "",
) -> Response:
    """Hear what became of pull requests. A delivery that comes again tells the same outcomes, which are stored once.

    One that cannot be read is refused, and goes into quarantine.
    """
    body = await request.body()
    await asyncio.to_thread(_check, here, workspace, body, signature, delivery[:64])
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        heard = await asyncio.to_thread(_hear, here, workspace, event, body, kind)
    except FlywheelError as error:
        bad = [(None, str(error), _excerpt(body, kind))]
        aside = await asyncio.to_thread(quarantine.refused, here.home, workspace, github.SOURCE, bad, here.clock())
        await here.writer(workspace).write([*map(SetAside, aside)])
        raise
    if heard.outcomes:
        await here.writer(workspace).write([Told(outcome) for outcome in heard.outcomes])
    answer = Delivered(len(heard.outcomes), heard.ignored)
    return Response(msgspec.json.encode(answer), 200 if heard.outcomes else 202, media_type=JSON)


def _check(here: Running, workspace: str, body: bytes, signature: str | None, delivery: str) -> None:
    """Refuse what is not signed. That there is no such workspace, or no webhook of it, is not told apart."""
    good = bool(NAME.fullmatch(workspace)) and github.signed(here.home, workspace, body, signature)
    there = bool(NAME.fullmatch(workspace)) and (here.home.workspaces / f"{workspace}.json").exists()
    audit(
        here.home,
        workspace=workspace if there else "?",
        action="POST /w/{workspace}/github",
        who=github.SOURCE if good else "unknown signature",
        target=delivery if delivery.replace("-", "").isalnum() else "",
        allowed=good and there,
        now=here.clock(),
    )
    if not good or not there:
        raise Refused(401, "the signature is not that of this workspace's webhook (flywheel github link)")


def _excerpt(body: bytes, kind: str) -> str:
    text = body[: 4 * EXCERPT].decode("utf-8", "replace")  # a form takes three bytes for one
    return (unquote_plus(text) if kind == FORM else text)[:EXCERPT]


def _hear(here: Running, workspace: str, event: str, body: bytes, kind: str) -> Heard:
    if kind == FORM:
        try:
            [text] = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)["payload"]
        except (KeyError, ValueError) as error:
            raise FlywheelError("a form of GitHub's has one field, payload") from error
        body = text.encode()
    return github.hear(here.home, workspace, event, strict.value(body, here.config.depth), here.clock())

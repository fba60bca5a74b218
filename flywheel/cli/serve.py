"""`flywheel serve`: the gateway, the ways in and the ways out over HTTP."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from flywheel.cli import app
from flywheel.cli.output import Json, emit, say
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.server.config import Config

log = logging.getLogger("flywheel.server")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on; 127.0.0.1 unless given.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 8787 unless given, 0 for any that is free.")] = None,
    openai: Annotated[str | None, typer.Option(help="Where calls in OpenAI's manner go, with its /v1.")] = None,
    anthropic: Annotated[str | None, typer.Option(help="Where calls in Anthropic's manner go.")] = None,
    champion: Annotated[
        bool, typer.Option("--champion", help="The policy that serves answers in the place of OpenAI.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings and limits, as TOML; options count before it.")] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines as JSON objects.")] = False,
    json: Json = False,
) -> None:
    """Serve the data folder: models are called through it, and what agents do comes in and goes out over HTTP.

    It stores what came in every so often, and ends well with Ctrl-C: calls under way are finished first. Workspaces
    that nobody guards are open to this machine alone (flywheel token create).

    Example: flywheel serve --openai http://127.0.0.1:8000/v1

    Example: flywheel serve --champion

    Example: flywheel serve --host 0.0.0.0 --config server.toml --log-json
    """
    from flywheel.capture import workspaces
    from flywheel.server import logs
    from flywheel.server.config import Config, checked, load
    from flywheel.server.serving import serve as serving

    settings = load(config) if config else Config()
    given = {"host": host, "port": port, "openai": openai, "anthropic": anthropic, "champion": champion or None}
    settings = checked(msgspec.structs.replace(settings, **{k: v for k, v in given.items() if v is not None}))
    folder = home()
    folder.root.mkdir(parents=True, exist_ok=True)
    logs.configure(json=log_json)

    def began(url: str) -> None:
        names = workspaces.names(folder)
        bases = [_bases(url, name) for name in names]
        if json:
            emit({"url": url, "workspaces": bases})
            return
        if log_json:  # whoever reads the log reads lines of JSON alone
            log.info("serving", extra={"fields": {"home": str(folder.root), "url": url}})
            return
        say(f"serving {folder.root} at {url}; Ctrl-C ends it")
        for of in bases or [_bases(url, "WORKSPACE")]:
            say("\n".join([f"  {of['workspace']}", *(f"    {k:<29}{v}" for k, v in of.items() if k != "workspace")]))
        say(f"calls of models go on to {_shown(settings)}")
        if not bases:
            say("there is no workspace yet; create one with: flywheel workspace create NAME")

    def tell(url: str) -> None:
        # A log on a full disk keeps no server from answering that the disk is full.
        with suppress(OSError):
            began(url)

    serving(folder, settings, tell)


def _shown(settings: Config) -> str:
    """Where calls are passed on to, without what may be a password."""
    urls = [urlsplit(url) for url in (settings.openai, settings.anthropic)]
    openai, anthropic = (url._replace(netloc=url.netloc.rpartition("@")[2], query="").geturl() for url in urls)
    return f"{'the champion' if settings.champion else openai} and {anthropic}"


def _bases(url: str, workspace: str) -> dict[str, Any]:
    """What clients of a workspace are given, by the names of the variables that they read."""
    return {
        "workspace": workspace,
        "OPENAI_BASE_URL": f"{url}/w/{workspace}/v1",
        "ANTHROPIC_BASE_URL": f"{url}/w/{workspace}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{url}/w/{workspace}/otlp",
        "api": f"{url}/api/v1/workspaces/{workspace}",
    }

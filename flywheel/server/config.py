"""How a server is set up: where it listens, what it passes calls on to, and how much it takes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from flywheel.schema import FlywheelError


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one server. Names ending in `_s` are seconds, in `_bytes` bytes.

    `openai` and `anthropic` are the base URLs that calls are passed on to, the one of OpenAI with its `/v1`; an
    upstream may be silent for `silence_s`. With `champion`, the policy that serves answers instead of OpenAI's. A
    thread that was quiet for `idle_s` is over; journals are settled every `settle_every_s`. A stopping server lets
    answers go on for `stop_s`. `ready` asks for `free_bytes` on the disk.

    Limits of a request: `body_bytes` holds for a body as it comes and for what it unpacks to, `header_bytes` for all
    headers together. Headers must be there after `header_s`, a body after `body_s`, with no pause over `body_idle_s`; a
    connection without a request is closed after `keep_alive_s`, and one whose answer nobody reads after `write_s`. Of
    what is posted as JSON: `depth` lists and objects inside one another, `lines` records, `steps` steps and calls a
    record, `field_bytes` a text.

    Limits of a client, who is known by the token, else by the address: `requests_per_s` over time and `burst` at once,
    `concurrent_each` under way; and of all together, `concurrent`, whose bodies are `held_bytes` in memory at most.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    openai: str = "https://api.openai.com/v1"
    anthropic: str = "https://api.anthropic.com"
    champion: bool = False
    silence_s: float = 600.0
    idle_s: float = 900.0
    settle_every_s: float = 30.0
    stop_s: int = 30
    free_bytes: int = 256 * 2**20

    body_bytes: int = 64 * 2**20
    header_bytes: int = 32 * 2**10
    header_s: float = 10.0
    body_s: float = 300.0
    body_idle_s: float = 30.0
    keep_alive_s: int = 75
    depth: int = 200
    lines: int = 10_000
    steps: int = 20_000
    field_bytes: int = 16 * 2**20
    requests_per_s: float = 1000.0
    burst: int = 2000
    concurrent: int = 1024
    concurrent_each: int = 256
    held_bytes: int = 2**30
    write_s: float = 60.0


def checked(config: Config) -> Config:
    """The settings, when calls can be passed on with them.

    Raises:
        FlywheelError: for an upstream that is no URL.
    """
    for name, example in (("openai", "http://127.0.0.1:8000/v1"), ("anthropic", "https://api.anthropic.com")):
        url = getattr(config, name)
        try:
            parts = urlsplit(url)
            there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            there = False
        if not there:
            raise FlywheelError(f"{name} is {url!r}, which is no server's base URL; write it as {example}")
    return config


def load(path: Path) -> Config:
    """The settings of a TOML file.

    Raises:
        FlywheelError: when it cannot be read, or names a setting that there is not.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Config)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        known = ", ".join(Config.__struct_fields__)
        raise FlywheelError(f"{path} is no configuration of the server: {error} (settings: {known})") from error

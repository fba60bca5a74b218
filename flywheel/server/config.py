"""How a server is set up: where it listens, what it passes calls on to, and what it takes."""

from __future__ import annotations

import msgspec


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one server.

    `openai` and `anthropic` are the base URLs that calls are passed on to, the one of OpenAI with its `/v1`. A thread
    that was quiet for `idle_s` seconds is over; journals are settled every `settle_every_s`.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    openai: str = "https://api.openai.com/v1"
    anthropic: str = "https://api.anthropic.com"
    idle_s: float = 900.0
    settle_every_s: float = 30.0
    body_bytes: int = 64 * 2**20

"""What a stage tells of its work: a digest, counts, tables and plots, for a log, a report or an orchestrator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

Row = dict[str, Any]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one stage for one day or version.

    `digest` names the content that the stage made: equal inputs give an equal digest. Tables and plots are by
    their titles.
    """

    digest: str = ""
    counts: dict[str, float | int | str] = {}
    tables: dict[str, list[Row]] = {}
    plots: dict[str, Path] = {}

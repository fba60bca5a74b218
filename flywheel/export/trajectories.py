"""Trajectories one by one: each becomes rows of a format, or is left out with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.export import choose
from flywheel.export.budget import Budget
from flywheel.export.choose import Chosen
from flywheel.export.source import Made, Source, Tell
from flywheel.schema import canonical_json
from flywheel.settings import Home
from flywheel.views.compress import Compression, compressed
from flywheel.views.graded import Format, Graded, Row, Unfit
from flywheel.views.steps import SHARED, STEPS, shared

REPEATED = "the same prompt of the same task"


class Trajectories(Source):
    """What was chosen, in a format of `views.formats`; memory does not grow with the rows, but for their ids."""

    def __init__(self, home: Home, chosen: Chosen, of: Format, budget: Budget | None = None) -> None:
        self._home, self._chosen, self._of, self._budget = home, chosen, of, budget
        self.name, self.version, self.lost = of.name, of.version, of.lost
        self.said, self.left_out, self.total = chosen.said, chosen.left_out, chosen.keys.num_rows
        self.budget = budget.said() if budget else {}

    def page(self, after: str | None, limit: int | None) -> tuple[Trajectories, str | None]:
        """So many trajectories; a cursor is the id that they begin behind."""
        some, following = self._chosen.page(after, limit)
        return Trajectories(self._home, some, self._of, self._budget), following

    def made(self, tell: Tell) -> Iterator[Made]:
        """The rows of one trajectory after the other, in order of ids."""
        prompts: set[bytes] = set()
        number = 0
        for given in choose.graded(self._home, self._chosen):
            if self._budget is not None:
                given = _within(given, self._budget)
            try:
                rows = self._of.rows(given, number)
            except Unfit as unfit:
                tell(str(unfit), 1)
                continue
            if self.name == "trl-prompts":
                key = hashlib.sha256(canonical_json({k: v for k, v in rows[0].items() if k != "id"}).encode()).digest()
                if key in prompts:
                    tell(REPEATED, 1)
                    continue
                prompts.add(key)
            number += 1
            beside: list[tuple[str, Row]] = [("trajectories", shared(given))] if self.name == "steps" else []
            if given.compression:
                beside.append(("compression", given.compression))
            yield Made(written=1, rows=rows, beside=beside, compressed=_kinds(given.compression))

    def stems(self) -> list[str]:
        """Hermes keeps failures apart; steps have what they share beside them."""
        several = {"hermes": ["trajectory_samples", "failed_trajectories"], "steps": ["steps", "trajectories"]}
        return several.get(self.name, super().stems())

    def stem(self, row: Row) -> str:
        """By whether the agent came to its end, in Hermes' format."""
        return self.stems()[int(self.name == "hermes" and not row["completed"])]

    def columns(self) -> dict[str, pa.Schema]:
        """Steps, and what they share."""
        return {"steps": STEPS, "trajectories": SHARED} if self.name == "steps" else super().columns()


def _within(given: Graded, budget: Budget) -> Graded:
    short, told = compressed(given.trajectory, budget.max_tokens, budget.count, budget.summarise)
    if told is None:
        return given
    return msgspec.structs.replace(given, trajectory=short, compression=msgspec.to_builtins(told))


def _kinds(told: dict[str, Any] | None) -> list[str]:
    """How a compression counts on the card."""
    if not told:
        return []
    of = msgspec.convert(told, Compression)
    kinds = [f"with a {of.by}"] if of.end > of.first else []
    return kinds + ["summaries that failed"] * bool(of.error) + ["over the budget even so"] * of.over

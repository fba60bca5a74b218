"""Reports: what an evaluation found, as JSON for programs and Markdown with plots for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.evaluate.comparison import Cell, Comparison, Rate, compare, rates
from flywheel.evaluate.entrants import Entrant
from flywheel.evaluate.slices import Slice, SliceRate, by_environment, compare_on, rate_of
from flywheel.evaluate.suite import Suite
from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name

Rows = list[dict[str, Any]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that an evaluation found; `candidate` and `champion` are names of entrants.

    `corpus` is a reference such as `support@v1`. `leaks` are rows of the leakage audit, None when there was none.
    `tables` are further tables by their titles (tree cost, corpus versions, cycle time, offline evaluation);
    `plots` the files of the report's folder by their titles.
    """

    id: str
    created_at: datetime
    corpus: str = ""
    corpus_digest: str = ""
    candidate: str
    champion: str | None = None
    suite: Suite
    entrants: tuple[Entrant, ...]
    success: tuple[Rate, ...]
    comparisons: tuple[Comparison, ...]
    slices: tuple[SliceRate, ...]
    slice_comparisons: tuple[Comparison, ...]
    leaks: Rows | None = None
    tables: dict[str, Rows] = {}
    plots: dict[str, str] = {}

    def entrant(self, name: str) -> Entrant:
        """An entrant by name.

        Raises:
            FlywheelError: when nobody of that name was judged.
        """
        for entrant in self.entrants:
            if entrant.name == name:
                return entrant
        names = ", ".join(e.name for e in self.entrants)
        raise FlywheelError(f"report {self.id} judged no {name!r}; it judged: {names}")


def build(
    results: pa.Table,
    *,
    id: str,
    created_at: datetime,
    suite: Suite,
    entrants: Sequence[Entrant],
    candidate: str,
    champion: str | None = None,
    corpus: str = "",
    corpus_digest: str = "",
    slices: Sequence[Slice] | None = None,
    leaks: Rows | None = None,
    tables: Mapping[str, Rows] | None = None,
) -> Report:
    """Work the report out of rows of `results.RESULTS`.

    The candidate, greedy, is compared with each other entrant, greedy and at that entrant's best temperature;
    with the champion at every temperature both played. A best temperature is picked on these same tasks, which
    favours the other side: a gain over it is an understatement. Slices are the environments unless given. Without
    rows (an offline evaluation alone) there is nothing to compare.

    Raises:
        FlywheelError: when the results hold no greedy rows of the candidate, or a task twice.
    """
    checked_name(id, "report")
    success = rates(results)
    parts = list(by_environment(results) if slices is None else slices)
    cells = [Cell(r.policy, r.temperature) for r in success]
    own = Cell(candidate)
    pairs = [(own, other) for other in _others(success, candidate)]
    if champion:
        both = [c.temperature for c in cells if c.policy == candidate and Cell(champion, c.temperature) in cells]
        pairs += [(Cell(candidate, t), Cell(champion, t)) for t in both]
    unique = list(dict.fromkeys(pairs))
    return Report(
        id=id,
        created_at=created_at,
        corpus=corpus,
        corpus_digest=corpus_digest,
        candidate=candidate,
        champion=champion,
        suite=suite,
        entrants=tuple(entrants),
        success=tuple(success),
        comparisons=tuple(compare(results, one, two) for one, two in unique),
        slices=tuple(rate_of(results, cell, part) for part in parts for cell in cells),
        slice_comparisons=tuple(compare_on(results, own, Cell(champion), parts)) if champion else (),
        leaks=leaks,
        tables=dict(tables or {}),
    )


def _others(success: Sequence[Rate], candidate: str) -> list[Cell]:
    """Each other policy greedy, then at its best temperature where that is not greedy."""
    others: list[Cell] = []
    for name in dict.fromkeys(r.policy for r in success if r.policy != candidate):
        own = [r for r in success if r.policy == name]
        best = max(own, key=lambda r: (r.success, -r.temperature))
        others += [Cell(name, r.temperature) for r in own if not r.temperature or r is best]
    return others


def write(home: Home, report: Report, results: pa.Table, plots: Mapping[str, Path] | None = None) -> Path:
    """Write a report's folder, whole or not at all: report.json, report.md, results.parquet and PNG files.

    `plots` are further pictures by their titles (loss curves): they are copied in.
    """
    from flywheel.evaluate import plot
    from flywheel.evaluate.markdown import page

    place = home.reports / report.id
    with artifacts.folder(place) as folder:
        drawn: dict[str, str] = {}
        if report.success:
            drawn = {"Success": "success.png", "Success by temperature": "temperatures.png"}
            plot.success(report.success, folder / drawn["Success"])
            plot.temperatures(report.success, folder / drawn["Success by temperature"])
        for title, picture in (plots or {}).items():
            drawn[title] = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + picture.suffix
            (folder / drawn[title]).write_bytes(picture.read_bytes())
        report = msgspec.structs.replace(report, plots=drawn)
        pq.write_table(results, folder / "results.parquet", compression="zstd")
        (folder / "report.md").write_text(page(report), encoding="utf-8")
        # The order of a table's columns is part of it, so names are not sorted here.
        text = msgspec.json.format(msgspec.json.encode(report), indent=2)
        artifacts.write_bytes(folder / "report.json", text + b"\n")
    return place


def load(home: Home, id: str) -> Report:
    """A report by its id; `latest` is the one created last.

    Raises:
        FlywheelError: when there is no report of that id, or none at all.
    """
    if id == "latest":
        return latest(home)
    path = home.reports / id / "report.json"
    if not path.is_file():
        raise FlywheelError(f"there is no report {id!r}; there are: {', '.join(ids(home)) or 'none'}")
    return msgspec.json.decode(path.read_bytes(), type=Report)


def results_of(home: Home, id: str) -> pa.Table:
    """The rows that a report was worked out of."""
    return pq.read_table(home.reports / id / "results.parquet")


def ids(home: Home) -> list[str]:
    """The ids of all reports, in the order of their names."""
    return sorted(p.parent.name for p in home.reports.glob("[!.]*/report.json"))


def latest(home: Home) -> Report:
    """The report created last.

    Raises:
        FlywheelError: when there is none yet.
    """
    reports = [load(home, id) for id in ids(home)]
    if not reports:
        raise FlywheelError("no report yet: run `flywheel demo`, or `flywheel evaluate POLICY`")
    return max(reports, key=lambda r: (r.created_at, r.id))

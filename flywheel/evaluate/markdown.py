"""A report as a page for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flywheel.evaluate.comparison import Comparison, Rate
from flywheel.evaluate.slices import SliceRate

if TYPE_CHECKING:
    from flywheel.evaluate.report import Report, Rows


def page(report: Report) -> str:
    """The whole report as Markdown, with its plots beside it."""
    parts = [f"# Report {report.id}", " ".join([*_judged(report), f"Made {report.created_at:%Y-%m-%d %H:%M} UTC."])]
    for title, rows in tables(report).items():
        parts += [f"## {title}", table(rows)]
    parts += [f"## {title}\n\n![{title}]({name})" for title, name in report.plots.items()]
    return "\n\n".join(parts) + "\n"


def _judged(report: Report) -> Iterator[str]:
    against = f" against the champion **{report.champion}**" if report.champion else ""
    yield f"Candidate **{report.candidate}**{against}."
    if report.corpus:
        yield f"Corpus {report.corpus} (digest {report.corpus_digest[:12] or 'unknown'})."
    if report.suite.size:
        tasks = ", ".join(f"{n} of {name}" for name, n in sorted(report.suite.environments.items()))
        yield f"Suite {report.suite.name}: {tasks} ({report.suite.split}, seed {report.suite.seed})."


def tables(report: Report) -> dict[str, Rows]:
    """Each table of a report by its title, as rows that a person reads."""
    own: dict[str, Rows] = {
        "Held-out success": [rate_row(r) for r in report.success],
        "The candidate against others, on the same tasks": [comparison_row(c) for c in report.comparisons],
        "Slices": [slice_row(s) for s in report.slices],
        "The candidate against the champion, by slice": [comparison_row(c) for c in report.slice_comparisons],
    }
    if report.suite.size:
        nothing = "was not made" if report.leaks is None else "no training row leaks"
        own["Leakage from held-out tasks into training rows"] = report.leaks or [{"audit": nothing}]
    return {title: rows for title, rows in own.items() if rows} | report.tables


def rate_row(rate: Rate) -> dict[str, Any]:
    """A rate as a row."""
    return {
        "policy": rate.policy,
        "T": rate.temperature,
        "success": rate.success,
        "95 % interval": _interval(rate.low, rate.high),
        "n": rate.n,
        "credit": rate.credit,
        "checks first": rate.checked_first,
        "turns": rate.turns,
        "tokens": rate.tokens,
        "tool errors": rate.tool_errors,
    }


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a row: the interval that decides, and both it is made of."""
    found = comparison.paired
    return {
        "slice": comparison.slice,
        "first": f"{comparison.first} T={comparison.first_temperature:g}",
        "second": f"{comparison.second} T={comparison.second_temperature:g}",
        "difference": found.difference,
        "95 % interval": _interval(found.low, found.high),
        "by task": _interval(*found.by_task),
        "by template": _interval(*found.by_group),
        "won / lost": f"{found.wins} / {found.losses}",
        "p": f"{found.p:.2g}",
        "n": found.n,
        "templates": found.groups,
    }


def slice_row(part: SliceRate) -> dict[str, Any]:
    """A slice's rate as a row."""
    return {
        "slice": part.slice,
        "policy": part.policy,
        "T": part.temperature,
        "success": part.success,
        "95 % interval": _interval(part.low, part.high),
        "n": part.n,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table, with every column that any row has."""
    if not rows:
        return "None."
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value as the text of one cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    text = _number(value) if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _interval(low: float, high: float) -> str:
    return f"[{low:.3f}, {high:.3f}]"

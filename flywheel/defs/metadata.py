"""Facts of a stage as Dagster metadata: numbers, tables, and plots drawn inline."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from flywheel.wheel.facts import Facts, Row

MOST_ROWS = 100


def of(facts: Facts) -> dict[str, Any]:
    """Metadata values for the counts, tables and plots of a stage."""
    values: dict[str, Any] = dict(facts.counts)
    values |= {name: dg.MetadataValue.md(markdown_table(rows)) for name, rows in facts.tables.items()}
    values |= {name: dg.MetadataValue.md(plot(path)) for name, path in facts.plots.items()}
    if facts.digest:
        values["digest"] = facts.digest
    return values


def over_pipes(facts: Facts) -> dict[str, Any]:
    """The same, in the raw form that a Pipes session carries to the orchestrator."""
    values: dict[str, Any] = dict(facts.counts)
    drawn = {name: markdown_table(rows) for name, rows in facts.tables.items()}
    drawn |= {name: plot(path) for name, path in facts.plots.items()}
    values |= {name: {"raw_value": text, "type": "md"} for name, text in drawn.items()}
    if facts.digest:
        values["digest"] = facts.digest
    return values


def markdown_table(rows: list[Row]) -> str:
    """Rows as a Markdown table; a long one ends by saying how many rows it left out."""
    if not rows:
        return "(no rows)"
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(c)) for c in columns) + " |" for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines.append(f"\n… and {len(rows) - MOST_ROWS} rows more")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def plot(path: Path) -> str:
    """A PNG as Markdown, so that the UI shows it in place."""
    return f"![{path.stem}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"


def column_schema(schema: pa.Schema) -> Mapping[str, Any]:
    """The columns of an Arrow schema as Dagster's column metadata."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(name=field.name, type=str(field.type)) for field in schema]
        )
    }

"""The card of an export: what it was made of, what it holds and what not, and how to read it."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec

from flywheel.views import axolotl

UNSPECIFIED = "unspecified"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an export; `rows` are its lines."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What an export is. `looked_at` = `written` + all that were `left_out`, by reason; `unit` says of what.

    `made_of` names what they were chosen from, with its digest or the time as of which it was read, and what was
    asked. `digest` is SHA-256 over the names and digests of the files. `lost` tells for each field of a record that the
    format does not carry what becomes of it. `budget` and `compressed` tell of trajectories brought to so many tokens.
    No time of making stands in it: the same export again is the same bytes.
    """

    format: str
    format_version: str
    unit: str
    looked_at: int
    written: int
    left_out: dict[str, int]
    files: tuple[File, ...]
    digest: str
    license: str
    made_of: dict[str, Any]
    lost: dict[str, str]
    budget: dict[str, Any] = {}
    compressed: dict[str, int] = {}
    flywheel: str = msgspec.field(default_factory=lambda: version("flywheel"))


LOADS = {
    "trl-sft": "SFTTrainer(train_dataset=rows, args=SFTConfig(assistant_only_loss=True), ...)",
    "trl-dpo": "DPOTrainer(train_dataset=rows, ...)",
    "trl-kto": "KTOTrainer(train_dataset=rows, ...)",
    "trl-prompts": "GRPOTrainer(train_dataset=rows, reward_funcs=..., ...)",
}


def readme(card: Card) -> str:
    """The card as a page; its head is what `datasets.load_dataset(FOLDER)` reads."""
    first = card.files[0].name
    data = [file for file in card.files if file.rows and not file.name.startswith("compression")]
    head = [*([f"license: {card.license}"] if card.license != UNSPECIFIED else []), *["configs:"] * bool(data)]
    for place, file in enumerate(data):
        stem = file.name.partition(".")[0]
        head += [f"- config_name: {stem if place else 'default'}", "  data_files:"]
        head += [f"  - split: {_split(card)}", f"    path: {file.name}"]
    lines = ["---", *head, "---", ""] if head else []
    lines += [f"# {card.format}", ""]
    lines += [f"{card.written:,} {card.unit} in the format {card.format} ({card.format_version}).", ""]
    lines += _table(("", ""), [(key, _text(value)) for key, value in _about(card)])
    lines += ["", f"Of {card.looked_at:,} {card.unit}, {card.written:,} are written.", ""]
    lines += _table(("left out", card.unit), [(reason, f"{count:,}") for reason, count in card.left_out.items()])
    lines += ["", "## Files", ""]
    lines += _table(("file", "rows", "SHA-256"), [(f.name, f"{f.rows:,}", f"`{f.sha256}`") for f in card.files])
    lines += ["", "## Reading it", "", "```python", "from datasets import load_dataset", ""]
    lines += [f'rows = load_dataset("FOLDER", split="{_split(card)}")']
    lines += [LOADS[card.format]] if card.format in LOADS else []
    lines += ["```"]
    if card.format == "axolotl":
        lines += ["", "```yaml", axolotl.CONFIG.format(file=first).rstrip(), "```"]
    if card.lost:
        lines += ["", "## What the format does not carry", ""]
        lines += _table(("field", "what becomes of it"), list(card.lost.items()))
    return "\n".join(lines) + "\n"


def _split(card: Card) -> str:
    return "test" if card.made_of.get("split") == "heldout" else "train"


def _about(card: Card) -> list[tuple[str, Any]]:
    shown = [
        (k, v)
        for k, v in card.made_of.items()
        if k not in ("recipe", "reasons", "reward_policy") and v not in ([], None)
    ]
    return [
        *shown,
        *card.budget.items(),
        *card.compressed.items(),
        ("license", card.license),
        ("digest of the files", f"`{card.digest}`"),
    ]


def _table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    return ["| " + " | ".join(row) + " |" for row in (names, ("---",) * len(names), *map(_cells, rows))]


def _cells(row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cell.replace("|", "\\|").replace("\n", " ") for cell in row)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

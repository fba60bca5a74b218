"""Plots of a report: success with intervals, by policy and by temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.evaluate.comparison import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL = "success, with 95 % interval"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # The object interface draws without a display, and leaves nothing behind in pyplot's global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def success(found: Sequence[Rate], path: Path) -> None:
    """One line for each policy and temperature, best at the top, as a PNG."""
    figure, axes = _figure(7, 1 + 0.28 * len(found))
    for place, rate in enumerate(sorted(found, key=lambda r: r.success)):
        errors = [[rate.success - rate.low], [rate.high - rate.success]]
        colour = "tab:blue" if not rate.temperature else "tab:grey"
        axes.errorbar(rate.success, place, xerr=errors, fmt="o", color=colour, capsize=2)
    axes.set_yticks(
        range(len(found)),
        [f"{r.policy}, T = {r.temperature:g}" for r in sorted(found, key=lambda r: r.success)],
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(LABEL)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def temperatures(found: Sequence[Rate], path: Path) -> None:
    """A line for each policy over the temperatures it was played at, as a PNG."""
    figure, axes = _figure(7, 4)
    for name in dict.fromkeys(r.policy for r in found):
        own = sorted((r for r in found if r.policy == name), key=lambda r: r.temperature)
        line = axes.plot([r.temperature for r in own], [r.success for r in own], marker="o", label=name)
        axes.fill_between(
            [r.temperature for r in own],
            [r.low for r in own],
            [r.high for r in own],
            alpha=0.15,
            color=line[0].get_color(),
        )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("temperature")
    axes.set_ylabel(LABEL)
    axes.grid(alpha=0.3)
    if found:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)

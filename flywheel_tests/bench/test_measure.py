"""How benchmarks measure, and the page that is written from what they found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as everything
from bench import measure


def test_rounds_are_interleaved_after_one_that_is_not_counted() -> None:
    order: list[str] = []
    times = measure.race(2, {"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order == ["a", "b"] * 3
    assert times["a"].n == 2


def test_a_timing_reads_as_median_and_spread() -> None:
    assert str(measure.timing([0.3, 0.1, 0.2])) == "200 ms (100 ms to 300 ms)"
    assert str(measure.timing([2.0, 100.0])) == "51 s (2 s to 100 s)"


def allocate(size: int) -> int:
    return len(bytearray(size))


def test_memory_is_that_of_the_work_alone() -> None:
    ours = bytearray(200 << 20)
    small, large = measure.apart(allocate, 1), measure.apart(allocate, 100 << 20)
    assert large.given == 100 << 20
    assert small.peak < len(ours)
    assert 90 << 20 < large.peak - small.peak < 130 << 20


def fail() -> None:
    raise ValueError("no luck")


def test_work_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        measure.apart(fail)


def test_the_page_has_a_section_for_each_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    for name, title in (("versions", "Versions"), ("steps-take", "Take"), ("steps", "Filter"), ("other", "Other")):
        rows = [{"store": "a|b", "time": measure.timing([0.1]), "rows": 1234, "recall": 0.98765, "size": None}]
        measure.write(name, rows, title=title, note="Read with care.")
    page = everything.page()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Filter", "## Take", "## Versions", "## Other",
    ]  # fmt: skip
    assert "| a\\|b | 100 ms (100 ms to 100 ms) | 1,234 | 0.988 |  |" in page

"""Tables for people: whole in a pipe, on their side in a terminal that is too narrow."""

from datetime import UTC, datetime

import pytest

from flywheel.cli import output

COLUMNS = ["trajectory", "the first of its figures", "the second of its figures"]
ROW = ("t1", 0.25, None)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The rows of what was printed, without the frame."""
    drawn = capsys.readouterr().out.splitlines()
    return [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in drawn if line[:1] in "│┃"]


def test_a_pipe_gets_the_whole_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.table("", COLUMNS, [ROW])
    assert lines(capsys) == [" ".join(COLUMNS), "t1 0.25"]


def test_a_narrow_terminal_gets_it_on_its_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")  # 80 characters wide, and no colours
    output.table("", COLUMNS, [("t" * 40, *ROW[1:])])
    assert [line for line in lines(capsys) if "figures" in line] == [f"{COLUMNS[1]} 0.25", COLUMNS[2]]


def test_cells_are_written_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 11, 9, 8, 30, 1, 500, tzinfo=UTC)
    output.table("[title]", ["a", "b", "c", "d"], [(moment, ["x", "y"], "[bold]", "z" * 1000)])
    [_, row] = lines(capsys)
    assert row == f"2026-11-09 08:30:01 x, y [bold] {'z' * output.LONGEST}…"

"""Formats of other packages, by entry points."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flywheel import warehouse
from flywheel.capture import importers, workspaces
from flywheel.capture.ingest import ingest
from flywheel.schema import OUTCOMES, QUARANTINE, FlywheelError
from flywheel.settings import Home

TICKET = {"ticket": "T1", "turns": [["user", "Down."], ["assistant", "Up."]], "solved": True}
Install = Callable[..., Path]


def documented() -> str:
    """The example in the documentation."""
    page = (Path(__file__).parents[3] / "docs/importing.md").read_text()
    return page.split("```python\n")[1].split("```")[0]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes a package of one module with an entry point known to this process."""
    modules = []

    def installing(code: str, name: str = "helpdesk", package: str = "helpdesk-importer") -> None:
        module = package.replace("-", "_")
        site = tmp_path / "site" / package
        about = site / f"{module}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[flywheel.importers]\n{name} = {module}\n")
        (site / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        modules.append(module)

    yield installing  # type: ignore[misc]
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def desk(home: Home) -> Home:
    workspaces.create(home, "desk")
    return home


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "tickets.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(json.dumps(line) for line in (TICKET, TICKET | {"turns": 7}, TICKET | {"ticket": "T2"})))
    return path


def test_the_example_of_the_documentation_works(desk: Home, install: Install, tickets: Path) -> None:
    install(documented())
    report = ingest(desk, [tickets], "desk")
    [file] = report.files
    assert (file.format, file.added, file.quarantined, file.outcomes, report.broken) == ("helpdesk", 2, 1, 2, [])
    assert warehouse.read(desk.outcomes, OUTCOMES, "desk")["signal"].to_pylist() == ["solved", "solved"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nowhere", "'helpdesk' of helpdesk-importer cannot be used (ModuleNotFoundError: No module named"),
        ("NAME = 'helpdesk'", "it has no detect and no read"),
        ("NAME = 'x'\ndetect = read = len", "its NAME is 'x'"),
        ("NAME = 'helpdesk'\nread = len\ndef detect(head): raise KeyError('oh')", "(KeyError: 'oh')"),
    ],
)
def test_one_that_is_broken_is_named_and_costs_no_other(
    desk: Home, install: Install, tickets: Path, code: str, told: str
) -> None:
    install(code)
    chats = tickets.with_name("chats.jsonl")
    chats.write_text('{"messages": [{"role": "user", "content": "Hi"}]}')
    report = ingest(desk, [chats], "desk")
    assert (report.files[0].format, report.files[0].added) == ("openai-chat", 1)
    assert told in report.broken[0]
    with pytest.raises(FlywheelError) as caught:
        ingest(desk, [tickets], "desk")
    assert told in str(caught.value) and "tickets.jsonl is of no known format" in str(caught.value)


def test_a_name_that_is_taken_stays_whose_it_was(install: Install) -> None:
    install("NAME = 'langfuse'\ndetect = read = len", name="langfuse")
    known = importers.known()
    assert "there is a format 'langfuse' already" in known.broken[0]
    assert [i.NAME for i in known.importers] == list(importers.FORMATS)


def test_one_that_fails_while_it_reads_costs_the_rest_of_that_file(desk: Home, install: Install, tickets: Path) -> None:
    code = documented().replace("it = msgspec.convert(raw, Ticket)", "it = Ticket(**raw)")  # a TypeError, for 7
    install(code)
    (tickets.parent / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}')
    with pytest.raises(FlywheelError, match=r"the importer 'helpdesk' failed on .*tickets.jsonl: TypeError"):
        ingest(desk, [tickets], "desk")
    chats, file = ingest(desk, [tickets.parent], "desk").files
    assert (chats.added, file.added + file.already_there, file.quarantined) == (1, 1, 1)
    assert "TypeError" in file.error


def test_what_it_makes_is_of_the_workspace(desk: Home, install: Install, tickets: Path) -> None:
    install(documented().replace("workspace=workspace,", "workspace='other',"))
    [file] = ingest(desk, [tickets], "desk").files
    assert (file.added, file.quarantined) == (0, 3)
    errors = warehouse.read(desk.quarantine, QUARANTINE, "desk")["error"].to_pylist()
    assert any("writes to workspace 'desk', not to 'other'" in error for error in errors)

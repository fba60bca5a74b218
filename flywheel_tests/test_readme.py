"""What README and docs say is true: their commands run, and what they name exists."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import typer

from flywheel.cli import app
from flywheel.corpus.query import query
from flywheel.settings import Home
from flywheel_tests.conftest import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SAMPLE = ROOT / "data" / "sample"
# Opens a server and stays: there is no document to print.
NO_JSON = {("ui",)}


def lines(page: Path) -> list[str]:
    """The lines of a page's code blocks, without the remarks behind them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.S | re.M)
    return [line.split("  # ")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group by its words, groups included."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))
LEAVES = {path: command for path, command in COMMANDS.items() if not hasattr(command, "commands")}


def test_it_fits_a_screen() -> None:
    assert len(README.read_text().splitlines()) <= 45


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.M)}
    assert {"demo", "test", "ui"} <= named <= targets


@pytest.mark.slow
def test_its_commands_run_in_the_order_in_which_they_stand(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "data" / "sample")
    given = [line for line in lines(README) if line.startswith("flywheel ")]
    assert any(line.startswith("flywheel ingest") for line in given)
    # The command as a shell finds it, wherever this environment keeps it.
    (tmp_path / "bin").mkdir()
    entry = tmp_path / "bin" / "flywheel"
    entry.write_text(f"#!{sys.executable}\nfrom flywheel.cli import main\nmain()\n")
    entry.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{entry.parent}{os.pathsep}{os.environ['PATH']}",
        "FLYWHEEL_HOME": str(tmp_path / "home"),
    }
    for line in given:
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout or done.stderr, line


def assert_command(text: str, where: str) -> None:
    """What follows `flywheel` in a text begins with a command's words."""
    words = tuple(text.split())
    assert words[:1] in COMMANDS, f"{where}: flywheel {text}"
    if words[:1] not in LEAVES and len(words) > 1:
        assert words[:2] in COMMANDS, f"{where}: flywheel {text}"


def test_the_commands_that_pages_name_exist() -> None:
    for page in PAGES:
        named = re.findall(r"`flywheel ([a-z][a-z ]*)", page.read_text())
        named += [line.removeprefix("flywheel ") for line in lines(page) if line.startswith("flywheel ")]
        for text in named:
            assert_command(text, page.name)


def test_the_commands_that_messages_name_exist() -> None:
    for module in sorted((ROOT / "flywheel").rglob("*.py")):
        for text in re.findall(
            r"(?:`|\bwith: |\bby: |Example: )flywheel ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", module.read_text()
        ):
            assert_command(text, str(module.relative_to(ROOT)))


def test_the_queries_that_pages_give_can_be_asked(home: Home) -> None:
    given = [sql for page in PAGES for sql in re.findall(r'flywheel query "(.*?)"', page.read_text(), re.S)]
    assert given
    for sql in given:
        query(home, sql)


def test_the_pages_and_pictures_that_pages_lead_to_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} leads to {target}"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_command_teaches_and_speaks_json(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    assert f"flywheel {' '.join(path)}" in (command.help or ""), "the help shows no example"
    paragraphs = (command.help or "").split("\n\n")
    assert not any("\n" in paragraph for paragraph in paragraphs), "a terminal breaks lines where it ends"
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (path not in NO_JSON)
    assert all(parameter.help for parameter in command.params if parameter.param_type_name == "option")


def test_the_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    spec = util.spec_from_file_location("make", SAMPLE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in SAMPLE.glob("*.jsonl")}, "run data/sample/make.py"

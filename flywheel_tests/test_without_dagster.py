"""The library works where Dagster is not installed: a process that cannot import it goes from capture to query."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a process of its own, since this one may have imported Dagster already.
SCRIPT = '''
import sys


class Blocked:
    """Answers every import of Dagster as a machine does that has none."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"dagster", "dagster_duckdb", "dagster_pipes", "dagster_shared"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Blocked())

import importlib
import json
import pkgutil

import flywheel


def allowed(name):
    return name != "flywheel.definitions" and not f"{name}.".startswith("flywheel.defs.")


def modules(package):
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if allowed(found.name):
            module = importlib.import_module(found.name)
            yield found.name
            if found.ispkg:
                yield from modules(module)


imported = list(modules(flywheel))

from typer.testing import CliRunner

from flywheel.capture import Recorder
from flywheel.cli import app
from flywheel.schema import Step
from flywheel.settings import home


def run(*words):
    ran = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


run("workspace", "create", "desk")
recorder = Recorder(home(), "desk", agent="bot")
for number in range(8):
    with recorder.trajectory(task_id=f"order-{number}") as trajectory:
        trajectory.step(Step(role="user", content=f"Where is order {number}?"))
        trajectory.step(Step(role="assistant", content=f"Order {number} is on its way."))
        trajectory.outcome("reward", 1.0)
recorder.close()
made = run("snapshot", "desk", "--filter", "reward > 0", "--to", "desk")
shown = run("corpus", "show", "desk@v1")
assert (shown["candidates"], shown["digest"]) == (8, made["digest"])
rows = run("stream", "desk@v1", "--limit", "100")
assert len(rows) == shown["splits"]["train"] > 0
assert any(span["trained"] and "on its way" in span["text"] for span in rows[0]["spans"])
[counted] = run("query", "SELECT count(*) AS n FROM corpus_rows")
assert counted["n"] == shown["rows"]
assert not any(name.split(".")[0].startswith("dagster") for name in sys.modules)
print(json.dumps(imported))
'''


@pytest.mark.slow
def test_every_module_but_defs_imports_and_the_stages_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"FLYWHEEL_HOME": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("flywheel.cli.wheel", "flywheel.wheel.cycle", "flywheel.train.run", "flywheel.corpus.snapshot"):
        assert f'"{name}"' in done.stdout


def test_a_process_that_needs_dagster_says_so(tmp_path: Path) -> None:
    blocked = SCRIPT[: SCRIPT.index("import importlib")] + "import flywheel.definitions"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert "No module named 'dagster'" in done.stderr

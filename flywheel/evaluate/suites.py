"""Every suite that training rows must not give away: those judged on now and before, and a person's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from flywheel.curate.leakage import TASKS
from flywheel.environments import names
from flywheel.evaluate.suite import Lookup, Suite, environment_of, shown
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class HeldOutTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a file `suites/NAME.jsonl`: a task that policies are judged on elsewhere.

    `text` is what it shows the policy; `answers` are its reference answers, `state` the state in which it begins (as
    text, or as a digest of at least 32 hexadecimal digits). A task without a group is a group of its own.
    """

    task_id: str
    text: str
    task_group: str = ""
    answers: tuple[str, ...] = ()
    state: str | None = None


class _Judged(msgspec.Struct, frozen=True):
    suite: Suite


def audited(home: Home, suites: Sequence[Suite] = (), lookup: Lookup = environment_of) -> pa.Table:
    """The tasks of the given suites, of the held-out suites of all reports, and of stored files: rows of `TASKS`.

    Tasks that several suites share count once, for the first of them. A report's suite of an environment that is not
    here any more cannot be made again, and is left out.

    Raises:
        FlywheelError: when a report or a stored file cannot be read.
    """
    made: dict[tuple[object, ...], pa.Table] = {}
    for suite in [*suites, *(s for s in judged(home) if set(s.environments) <= set(names()))]:
        made.setdefault((tuple(sorted(suite.environments.items())), suite.split, suite.seed), _tasks(suite, lookup))
    return pa.concat_tables([*made.values(), *(_stored(path) for path in stored(home)), TASKS.empty_table()])


def judged(home: Home) -> list[Suite]:
    """The suites of held-out tasks that reports were made of, in order of the reports' names."""
    found: list[Suite] = []
    for path in sorted(home.reports.glob("[!.]*/report.json")):
        try:
            suite = msgspec.json.decode(path.read_bytes(), type=_Judged).suite
        except msgspec.MsgspecError as error:
            raise FlywheelError(f"{path} is no report ({error}); bring it back from a copy, or remove it") from error
        if suite.split == "heldout" and suite.environments:
            found.append(suite)
    return found


def stored(home: Home) -> list[Path]:
    """The files of held-out tasks that a person has put into the data folder, in order of name."""
    return sorted(home.suites.glob("[!.]*.jsonl"))


def _tasks(suite: Suite, lookup: Lookup) -> pa.Table:
    tasks = shown(suite, lookup)
    nulls = [pa.nulls(tasks.num_rows, TASKS.field(name).type) for name in ("answers", "state")]
    named = pa.array([f"{suite.name} {suite.seed}"] * tasks.num_rows, pa.string())
    return pa.Table.from_arrays([named, *tasks.columns, *nulls], schema=TASKS)


def _stored(path: Path) -> pa.Table:
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            task = msgspec.json.decode(line, type=HeldOutTask)
        except msgspec.MsgspecError as error:
            known = ", ".join(HeldOutTask.__struct_fields__)
            raise FlywheelError(f"{path}, line {number}: {error}. A task may say: {known}") from error
        group = task.task_group or f"{path.stem}/{task.task_id}"
        rows.append(msgspec.to_builtins(task) | {"suite": path.stem, "task_group": group})
    return pa.Table.from_pylist(rows, schema=TASKS)

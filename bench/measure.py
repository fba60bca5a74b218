"""How the benchmarks measure: medians and spread, work in a process of its own, the machine, results as JSON."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts

RESULTS = Path(__file__).parent / "results"

GIB = 2**30


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Wall-clock seconds of repeated work: the median, the least and the most of `n` runs."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{seconds(self.median)} ({seconds(self.low)} to {seconds(self.high)})"


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What work took in a process of its own: wall-clock and CPU seconds, and the peak of resident memory in bytes.

    `given` is what the work returned.
    """

    seconds: float
    cpu: float
    peak: int
    given: Any


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one benchmark found, as it lies in `bench/results/NAME.json`."""

    name: str
    title: str
    command: str
    columns: list[str]
    rows: list[list[Any]]
    note: str
    machine: str
    at: datetime


def timing(runs: list[float]) -> Timing:
    """Seconds of runs, summed up."""
    return Timing(median=statistics.median(runs), low=min(runs), high=max(runs), n=len(runs))


def median_of(n: int, work: Callable[[], Any]) -> Timing:
    """The time of `work` over `n` runs, after one that is not counted."""
    return race(n, {"": work})[""]


def race(n: int, works: Mapping[str, Callable[[], Any]], *, warm: bool = True) -> dict[str, Timing]:
    """The times of several ways of doing the same, each run once a round: so a busy machine is busy for all of them.

    With `warm` one uncounted round comes first.
    """
    runs: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(n + warm):
        for name, work in works.items():
            gc.collect()
            began = time.perf_counter()
            work()
            took = time.perf_counter() - began
            if turn >= warm:
                runs[name].append(took)
    return {name: timing(found) for name, found in runs.items()}


def apart(work: Callable[..., Any], *arguments: Any) -> Used:
    """Do work in a fresh process and say what it took. `work` is a module's function; it returns what can be pickled.

    Raises:
        RuntimeError: when it fails, with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_work, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = "it ended without a word"
    child.join()
    if not isinstance(found, Used):
        raise RuntimeError(f"{work.__name__}{arguments} failed (exit code {child.exitcode}):\n{found}")
    return found


def _work(theirs: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        given = work(*arguments)
        used = Used(seconds=time.perf_counter() - wall, cpu=time.process_time() - cpu, peak=peak_memory(), given=given)
        theirs.send(used)
    except BaseException:
        theirs.send(traceback.format_exc())


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes.

    Not `ru_maxrss`: a child inherits that of its parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def bytes_under(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def machine() -> str:
    """The machine in words, with how busy it was."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = (re.findall(r"model name\s*:\s*(.+)", cpuinfo) or [platform.machine()])[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {model}, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )


def write(name: str, rows: list[dict[str, Any]], *, title: str, note: str = "") -> Path:
    """Keep what a benchmark found for the page, and print it.

    A row maps columns to values: text, numbers, `Timing`. `note` says in a sentence or two how to read it: what bounds
    it, what was missed. `name` is the module's, with a hyphen and what sets it apart where it has several results.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    result = Result(
        name=name,
        title=title,
        command=" ".join(["python -m", f"bench.{name.partition('-')[0]}", *sys.argv[1:]]),
        columns=columns,
        rows=[[_plain(row.get(column)) for column in columns] for row in rows],
        note=note,
        machine=machine(),
        at=datetime.now(UTC).replace(microsecond=0),
    )
    path = RESULTS / f"{name}.json"
    artifacts.write_json(path, result)
    print(section(result))
    return path


def load(name: str) -> Result:
    """What a benchmark found when it last ran."""
    return msgspec.json.decode((RESULTS / f"{name}.json").read_bytes(), type=Result)


def section(result: Result) -> str:
    """A result as a section of the page, in Markdown."""
    lines = [f"## {result.title}", "", f"`{result.command}`", ""]
    lines.append("| " + " | ".join(result.columns) + " |")
    lines.append("| " + " | ".join("---" for _ in result.columns) + " |")
    for row in result.rows:
        lines.append("| " + " | ".join(map(_text, row)) + " |")
    if result.note:
        lines += ["", result.note]
    return "\n".join([*lines, "", f"{result.at:%Y-%m-%d}, {result.machine}."])


def seconds(value: float) -> str:
    """Seconds for people."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s" if value < 100 else f"{value:,.0f} s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def _plain(value: Any) -> Any:
    return {"timing": msgspec.to_builtins(value)} if isinstance(value, Timing) else value


def _text(value: Any) -> str:
    if isinstance(value, dict) and "timing" in value:
        return str(Timing(**value["timing"]))
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value).replace("|", "\\|")

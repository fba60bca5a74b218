"""How often search finds trajectories of the same task among real captures, by each way of searching."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.ingest import ingest
from flywheel.capture.redaction.redact import Redactor
from flywheel.corpus.retrieval.search import Index, Mode
from flywheel.curate import embeddings
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel.settings import Home

FIRST = 10

NOTE = (
    "Recall at 10: of the trajectories that should be found, how many are among the first ten (ten counts as all where "
    "there are more). tau-bench and tau2: the secret instruction of a simulated user finds the runs of that task "
    "(tau-bench: 4 of 200; precision at 10 is at most 0.4), and the first thing a user said finds the other runs. "
    "InterCode: a question finds runs of another question with the same answer, asked in other words. Embedding took "
    "the time given, on CPU."
)


class Case(NamedTuple):
    """A text, the trajectories it should find, and those that do not count."""

    query: str
    wanted: frozenset[str]
    aside: frozenset[str] = frozenset()


def rows(real: Path) -> list[dict[str, Any]]:
    """One row for each way of searching."""
    ways: list[tuple[str, Mode]] = [("hashed", "text"), ("hashed", "vector"), ("hashed", "hybrid")]
    ways += [("minilm", "vector"), ("minilm", "hybrid")]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for name in ("tau-bench", "tau2", "intercode"):
            workspaces.create(home, name)
            ingest(home, [real / name / "sql" if name == "intercode" else real / name], name)
        suites = dict(_suites(home, real))
        for name, mode in ways:
            try:
                embedder = embeddings.embedder(name)
            except FlywheelError as error:
                print(error)
                continue
            found.append(_measured(home, suites, name, mode, embedder))
            print(found[-1])
    return found


def _measured(
    home: Home, suites: dict[str, list[Case]], name: str, mode: Mode, embedder: embeddings.Embedder
) -> dict[str, Any]:
    row: dict[str, Any] = {"searched by": "words (BM25)" if mode == "text" else f"{name}, {mode}"}
    for title, cases in suites.items():
        index = Index(home, [title.split(",")[0]], embedder=embedder)
        hits = [_hits(index, mode, case) for case in cases]
        row[f"{title}: recall"] = float(
            np.mean([n / min(FIRST, len(case.wanted)) for n, case in zip(hits, cases, strict=True)])
        )
        if title == "tau-bench, instruction":
            row[f"{title}: precision"] = float(np.mean(hits)) / FIRST
    if mode == "vector":
        texts = pa.array([case.query for case in suites["tau2, instruction"]] * 10)
        began = time.perf_counter()
        embedder.documents(texts)
        row["ms a text"] = (time.perf_counter() - began) / len(texts) * 1000
    return row


def _hits(index: Index, mode: Mode, case: Case) -> int:
    found = index.ids(case.query, mode=mode, limit=FIRST + len(case.aside))
    ids = [id for id in found["trajectory_id"].to_pylist() if id not in case.aside]
    return len(case.wanted & set(ids[:FIRST]))


def _suites(home: Home, real: Path) -> Iterator[tuple[str, list[Case]]]:
    for name, instructions in (("tau-bench", _tau_bench(real)), ("tau2", _tau2(real))):
        captured = _captured(home, name)
        runs = defaultdict(set)
        for id, group, _ in captured:
            runs[group].add(id)
        yield (
            f"{name}, instruction",
            [Case(Redactor().text(text), frozenset(runs[group])) for group, text in sorted(instructions.items())],
        )
        yield (
            f"{name}, first words",
            [
                Case(first, frozenset(runs[group] - {id}), frozenset({id}))
                for id, group, first in captured
                if len(runs[group]) > 1
            ],
        )
    yield "intercode, in other words", _other_words(home, real)


def _captured(home: Home, workspace: str) -> list[tuple[str, str, str]]:
    """Id, task group and first words of each trajectory."""
    with warehouse.connect() as connection:
        scan = warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)
        first = "list_filter(steps, lambda s: s.role = 'user')[1].content"
        return connection.sql(f"SELECT id, task_group, {first} FROM {scan} ORDER BY id").fetchall()


def _tau_bench(real: Path) -> dict[str, str]:
    [path] = (real / "tau-bench").glob("*.json")
    runs = json.loads(path.read_bytes())
    return {f"tau-bench-airline-{run['task_id']}": run["info"]["task"]["instruction"] for run in runs}


def _tau2(real: Path) -> dict[str, str]:
    found = {}
    for path in sorted((real / "tau2").glob("*.json")):
        for task in json.loads(path.read_bytes())["tasks"]:
            told = task["user_scenario"]["instructions"]
            parts = (told["reason_for_call"], told["known_info"], told["task_instructions"])
            found[f"tau2-airline-{task['id']}"] = " ".join(filter(None, parts))
    return found


def _other_words(home: Home, real: Path) -> list[Case]:
    """Questions that the same right query answers, though they are other questions."""
    answered, asked = defaultdict(set), {}
    for path in sorted((real / "intercode" / "sql").glob("*.json")):
        for episode in json.loads(path.read_bytes()).values():
            asked[episode["task_id"]] = " ".join(episode["query"].split())
            turns = episode["turn_history"]
            for action, reward in zip(turns["actions"], turns["rewards"], strict=False):
                query = re.sub(r"\s+", " ", action.lower().replace('"', "'").strip(" ;"))
                if reward == 1 and query.startswith("select") and len(query) > 25:
                    answered[query].add(asked[episode["task_id"]].lower())
    like = defaultdict(set)
    for questions in answered.values():
        for question in questions:
            like[question] |= questions - {question}
    runs = defaultdict(set)
    for id, _, first in _captured(home, "intercode"):
        runs[" ".join(first.split()).lower()].add(id)
    questions = sorted(question for question, others in like.items() if others)
    return [
        Case(question, frozenset(set().union(*(runs[other] for other in like[question]))), frozenset(runs[question]))
        for question in questions[::3]
    ]

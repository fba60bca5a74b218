"""What `flywheel evaluate` does: find who plays, let them play, and write the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
from rich.progress import Progress

from flywheel import artifacts
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.evaluate import baselines, policy, report
from flywheel.evaluate.entrants import Entrant, cells, play_all
from flywheel.evaluate.policy import Policy
from flywheel.evaluate.report import Report, Rows
from flywheel.evaluate.results import RESULTS
from flywheel.evaluate.suite import Suite
from flywheel.release import registry
from flywheel.schema import FlywheelError, canonical_json, stable_id
from flywheel.settings import Home

# In tokens, for a model that was trained elsewhere.
CONTEXT = 4096


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to judge: policies by id or path (the first is the candidate), a suite, and corpus versions.

    `corpus` is audited for leakage of the suite, `offline` is foretold; each `NAME@vN`, or empty for neither.
    Offline, at most `rows` held-out trajectories and four steps for each of them are foretold, in a `context` of so
    many tokens; None is what the candidate was trained with.
    """

    policies: tuple[str, ...]
    suite: Suite
    corpus: str = ""
    offline: str = ""
    rows: int = 50
    context: int | None = None
    device: str = "cpu"


def judge(home: Home, order: Order, display: Progress) -> Report:
    """Judge policies, the champion and the baselines beside them, and write a report; its inputs decide its id."""
    found = _found(home, order.policies)
    candidate = next(iter(found))
    champion = _champion(home, candidate) if order.suite.size else None
    if champion:
        found.setdefault(champion.id, champion)
    corpus = order.corpus or order.offline
    digest = _version(home, corpus).digest if corpus else ""
    results, entrants = _played(home, order, list(found.values()), display)
    facts = [[p.digest for p in found.values()], msgspec.to_builtins(order.suite), order.corpus, order.offline, digest]
    if order.offline:
        facts.append([order.rows, _context(order, next(iter(found.values())))])
    made = report.build(
        results,
        id=f"evaluation-{stable_id(canonical_json(facts))[:12]}",
        created_at=datetime.now(UTC),
        suite=order.suite,
        entrants=entrants,
        candidate=candidate,
        champion=champion.id if champion else None,
        corpus=corpus,
        corpus_digest=digest,
        leaks=_audited(home, order.suite, order.corpus) if order.corpus else None,
        tables=_foretold(home, order, list(found.values()), display) if order.offline else {},
    )
    report.write(home, made, results)
    return report.load(home, made.id)


def _found(home: Home, names: Sequence[str]) -> dict[str, Policy]:
    found: dict[str, Policy] = {}
    for name in names:
        one = policy.find(home, name)
        if found.setdefault(one.id, one).digest != one.digest:
            raise FlywheelError(f"two different policies are called {one.id!r}; rename one of their folders")
    return found


def _champion(home: Home, candidate: str) -> Policy | None:
    serving = registry.champion(home)
    return registry.verify(home, serving) if serving and serving.policy_id != candidate else None


def _played(home: Home, order: Order, found: Sequence[Policy], display: Progress) -> tuple[pa.Table, list[Entrant]]:
    if not order.suite.size:
        return RESULTS.empty_table(), [p.entrant() for p in found]
    players = [*(p.player(device=order.device) for p in found), *baselines.players(order.suite)]
    bar = display.add_task("playing", total=len(cells(order.suite, players)) * order.suite.size)
    results = play_all(
        order.suite,
        players,
        cache=home.evaluations,
        progress=lambda done: display.update(bar, completed=done),
    )
    return results, [p.entrant for p in players]


def _version(home: Home, text: str) -> Manifest:
    from flywheel.corpus import reference

    return manifest(home, *reference.parse(text))


def _rows(home: Home, text: str, split: str) -> pa.Table:
    from flywheel.corpus import store

    found = _version(home, text)
    return store.rows(home, found.name, found.version, split)


def _audited(home: Home, suite: Suite, corpus: str) -> Rows:
    from flywheel.corpus import store
    from flywheel.curate.leakage import COLUMNS, audit
    from flywheel.evaluate import suites

    training = store.batches(home, _version(home, corpus), "train", COLUMNS)
    return audit(training, suites.audited(home, [suite])).to_pylist()


def _foretold(home: Home, order: Order, found: Sequence[Policy], display: Progress) -> dict[str, Rows]:
    from flywheel.evaluate import offline

    rows = _rows(home, order.offline, "heldout")
    tables: dict[str, Rows] = {"Offline, on held-out captures": []}
    for one in found:
        bar = display.add_task(f"foretelling with {one.id}", total=None)
        measured = offline.evaluate(
            one.model,
            rows,
            max_rows=order.rows,
            max_positions=4 * order.rows,
            context=_context(order, found[0]),
            device=order.device,
            progress=lambda done, bar=bar: display.update(bar, completed=done),
        )
        tables["Offline, on held-out captures"].append(offline.row(one.id, measured))
        tables[f"Offline, {one.id} by action"] = measured.by_action
    return tables


def _context(order: Order, candidate: Policy) -> int:
    """The context that was asked for, else the one that the candidate was trained with."""
    trained = candidate.model.parent
    if order.context or not (trained / artifacts.MANIFEST).is_file():
        return order.context or CONTEXT
    return artifacts.read_json(trained / "config.json").get("context", CONTEXT)

"""The gate: from the result rows of one report to promote or keep, with a reason for each rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.evaluate.comparison import Cell, Comparison, compare, rates
from flywheel.evaluate.slices import Slice, by_environment, compare_on
from flywheel.evaluate.statistics import Paired


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a candidate must show beside a gain: greedy, over the champion, with the wider interval above 0.

    `margin`: how far below 0 the interval by task may reach at `acting_temperature`. `slice_tolerance`: a
    guard slice is worse when its difference is below minus this and its interval below 0. `minimum_tasks`: fewer
    cannot be judged. `baselines`: what a first champion has to beat, as far as the report played it;
    `allow_first` lets one through that did not.
    """

    acting_temperature: float = 1.0
    margin: float = 0.05
    slice_tolerance: float = 0.02
    minimum_tasks: int = 500
    baselines: tuple[str, ...] = ("empty", "captured agents")
    allow_first: bool = False


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, whether it held, and the figures that say so."""

    rule: str
    passed: bool
    detail: str


# Where one of these fails there is nothing to weigh: the report cannot be trusted, or cannot be judged.
BLOCKING = frozenset({"leakage", "enough tasks"})


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate decided on a candidate against a champion (None: there was none), and why."""

    candidate: str
    champion: str | None
    promote: bool
    reasons: tuple[Reason, ...]

    @property
    def blocked(self) -> bool:
        """Whether the report could not be judged at all: a leak, no audit, or too few tasks."""
        return any(not r.passed and r.rule in BLOCKING for r in self.reasons)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The reasons as table rows."""
        return [msgspec.to_builtins(r) for r in self.reasons]

    @property
    def why(self) -> str:
        """The failed rules in one line; of all rules when none failed."""
        failed = [r for r in self.reasons if not r.passed]
        return "; ".join(f"{r.rule}: {r.detail}" for r in failed or self.reasons)


def decide(
    results: pa.Table,
    candidate: str,
    champion: str | None,
    *,
    leaks: Sequence[dict[str, Any]] | None,
    rules: Rules = Rules(),
    slices: Sequence[Slice] | None = None,
) -> Verdict:
    """Judge a candidate on rows of `results.RESULTS`; both names are those of the column `policy`.

    `leaks` are the rows of the leakage audit (held-out tasks found in training rows, exact or near): any of them
    blocks, and so does None, an audit that was not made. `slices` are each environment unless given; those
    that are no guard are not judged.

    Raises:
        FlywheelError: when the results hold no rows of one of the two, greedy or at the acting temperature.
    """
    guards = [s for s in (by_environment(results) if slices is None else slices) if s.guard]
    reasons = [_leakage(leaks)]
    if champion is None:
        reasons += _first(results, candidate, rules)
    else:
        greedy = compare(results, Cell(candidate), Cell(champion))
        reasons += [_enough(results, Cell(candidate), Cell(champion), greedy.paired.n, rules)]
        reasons.append(_better("better than the champion", greedy))
        reasons.append(_acting(results, candidate, champion, rules))
        reasons += [_guard(c, rules) for c in compare_on(results, Cell(candidate), Cell(champion), guards)]
    return Verdict(
        candidate=candidate,
        champion=champion,
        promote=all(r.passed for r in reasons),
        reasons=tuple(reasons),
    )


def _leakage(leaks: Sequence[dict[str, Any]] | None) -> Reason:
    if leaks is None:
        return Reason(rule="leakage", passed=False, detail="no audit of training rows against held-out tasks was made")
    first = f", the first: {leaks[0]}" if leaks else ""
    return Reason(rule="leakage", passed=not leaks, detail=f"{len(leaks)} training rows hold held-out tasks{first}")


def _enough(results: pa.Table, candidate: Cell, other: Cell, common: int, rules: Rules) -> Reason:
    """Both must have played the same tasks: what one of them left out may be what it fails on."""
    played = {Cell(r.policy, r.temperature): r.n for r in rates(results)}
    one, two = played[candidate], played[other]
    detail = f"{common} tasks in common, of {one} and {two} played; {rules.minimum_tasks} needed"
    return Reason(rule="enough tasks", passed=one == two == common >= rules.minimum_tasks, detail=detail)


def _better(rule: str, comparison: Comparison) -> Reason:
    found = comparison.paired
    return Reason(rule=rule, passed=found.low > 0, detail=_figures(comparison) + f", p = {found.p:.2g}")


def _acting(results: pa.Table, candidate: str, champion: str, rules: Rules) -> Reason:
    temperature = rules.acting_temperature
    comparison = compare(results, Cell(candidate, temperature), Cell(champion, temperature))
    found = comparison.paired
    passed = found.n >= rules.minimum_tasks and found.by_task.low > -rules.margin
    detail = f"{_by_task(found)} at T={temperature:g}, margin {rules.margin:g}"
    return Reason(rule="not worse as it acts", passed=passed, detail=detail)


def _guard(comparison: Comparison, rules: Rules) -> Reason:
    found, rule = comparison.paired, f"guard slice {comparison.slice}"
    if not found.n:
        return Reason(rule=rule, passed=False, detail="no task of it was played by both")
    worse = found.difference < -rules.slice_tolerance and found.by_task.high < 0
    return Reason(rule=rule, passed=not worse, detail=_by_task(found))


def _by_task(found: Paired) -> str:
    """Guards look at the narrower interval: doubt about other templates must not hide a loss on these."""
    return f"{found.difference:+.3f} [{found.by_task.low:+.3f}, {found.by_task.high:+.3f}] over {found.n} tasks"


def _first(results: pa.Table, candidate: str, rules: Rules) -> list[Reason]:
    own = Cell(candidate)
    # A baseline at whichever temperature served it best here: the doubt is the candidate's to bear.
    best = {
        r.policy: Cell(r.policy, r.temperature)
        for r in sorted(rates(results), key=lambda r: (r.success, -r.temperature))
    }
    if rules.allow_first:
        return [
            _enough(results, own, own, compare(results, own, own).paired.n, rules),
            Reason(rule="first champion", passed=True, detail="allowed without a baseline to beat"),
        ]
    reasons: list[Reason] = []
    for baseline in (b for b in rules.baselines if b in best):
        comparison = compare(results, own, best[baseline])
        reasons.append(_enough(results, own, best[baseline], comparison.paired.n, rules))
        reasons.append(_better(f"better than {best[baseline]}", comparison))
    if not reasons:
        detail = f"no baseline was played ({', '.join(rules.baselines)}), and a first champion was not allowed"
        reasons.append(Reason(rule="first champion", passed=False, detail=detail))
    return reasons


def _figures(comparison: Comparison) -> str:
    found = comparison.paired
    return (
        f"{found.first:.3f} against {found.second:.3f}: {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    )

"""The judging stages of a version: held-out evaluation, the gate, and the champion at work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from flywheel import artifacts, environments
from flywheel.corpus.manifest import manifest
from flywheel.evaluate import baselines, report
from flywheel.evaluate.comparison import Rate
from flywheel.evaluate.entrants import Player, Role, cells, play_all
from flywheel.evaluate.policy import find
from flywheel.release import registry
from flywheel.release.gate import Verdict, decide
from flywheel.rollout.episode import play
from flywheel.settings import Home
from flywheel.train.config import Run
from flywheel.wheel import checks, learning, standing, week
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts, Row
from flywheel.wheel.progress import bar
from flywheel.wheel.versions import Version

CANDIDATE = "dpo"
CHAMPION = "champion"

# The champion acts in production as it was trained to: sampled, but not wildly.
ACTING = 0.5
WORK_TASKS = 7_000_001


def evaluation(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Judge the candidate beside its controls, the champion and the baselines; the report is named by the version."""
    suite = checks.suite(config)
    with timed(home, version.key, "evaluation"):
        players = _players(home, config, version)
        names = [player.entrant.name for player in players]
        with bar("evaluation", len(cells(suite, players)) * suite.size) as advance:
            results = play_all(suite, players, cache=home.evaluations, progress=lambda done: advance(done, None))
        of = manifest(home, config.corpus, version.number)
        leaks = checks.leakage(home, config, version)
        champion = CHAMPION if CHAMPION in names else None
        made = report.build(
            results,
            id=version.key,
            created_at=datetime.now(UTC),
            suite=suite,
            entrants=[player.entrant for player in players],
            candidate=CANDIDATE,
            champion=champion,
            corpus=f"{config.corpus}@v{version.number}",
            corpus_digest=of.digest,
            leaks=leaks,
        )
        matches = [(CANDIDATE, champion), ("sft", CANDIDATE), ("rejection sampling", CANDIDATE)]
        verdicts = [decide(results, one, other, leaks=leaks, rules=checks.rules(config)) for one, other in matches]
        made = msgspec.structs.replace(made, tables={"Gate": [_verdict(v) for v in verdicts]})
        if _stands(home, made):
            place = home.reports / version.key
        else:
            place = report.write(home, made, results, _curves(home, config, version))
    greedy = {r.policy: r.success for r in made.success if r.temperature == 0}
    return Facts(
        counts={
            "held-out success": greedy[CANDIDATE],
            "held-out success of sft": greedy["sft"],
            "tasks": suite.size,
            "leaks": len(leaks),
        },
        tables={"success": [_rate(r) for r in made.success], "gate": made.tables["Gate"]},
        plots={"success": place / "success.png"},
    )


def _stands(home: Home, made: report.Report) -> bool:
    """Whether the report was written before; the time and the further tables of the one that stands are its own."""
    if made.id not in report.ids(home):
        return False
    known = report.load(home, made.id)
    tables = known.tables | made.tables
    return known == msgspec.structs.replace(made, created_at=known.created_at, tables=tables, plots=known.plots)


def _curves(home: Home, config: WheelConfig, version: Version) -> dict[str, Path]:
    """The loss curves of imitation and of the candidate, by their titles."""
    runs: dict[str, Run] = {
        "sft": learning.sft_run(config, version),
        CANDIDATE: learning.dpo_run(home, config, version),
    }
    return {f"Loss of {name}": learning.policy(home, run).folder / "loss.png" for name, run in runs.items()}


def _players(home: Home, config: WheelConfig, version: Version) -> list[Player]:
    """The candidate and its controls; imitation at every temperature of the suite, the others greedy and acting."""
    acting = (0.0, checks.rules(config).acting_temperature)
    runs: list[tuple[str, Role, Run, tuple[float, ...] | None]] = [
        (CANDIDATE, "policy", learning.dpo_run(home, config, version), acting),
        ("sft", "control", learning.sft_run(config, version), None),
        ("rejection sampling", "control", learning.rejection_run(home, config, version), acting),
    ]
    trained: list[Player] = []
    for name, role, run, temperatures in runs:
        player = find(home, learning.policy(home, run).id).player(name, role)
        trained.append(msgspec.structs.replace(player, temperatures=temperatures))
    champion = standing.incumbent(home, version)
    if champion:
        player = find(home, champion.policy_id).player(CHAMPION)
        trained.append(msgspec.structs.replace(player, temperatures=acting))
    return [*trained, *baselines.players(checks.suite(config))]


def _verdict(verdict: Verdict) -> Row:
    return {
        "candidate": verdict.candidate,
        "against": verdict.champion or "baselines",
        "decision": "promote" if verdict.promote else "refuse",
        "why": verdict.why,
    }


def _rate(rate: Rate) -> Row:
    return {
        "policy": rate.policy,
        "T": rate.temperature,
        "success": rate.success,
        "interval": f"{rate.low:.3f} to {rate.high:.3f}",
        "n": rate.n,
    }


def champion(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Promote the candidate if the gate lets it through, else keep the champion; the history tells why.

    Raises:
        FlywheelError: when another champion has come to serve since the candidate was compared with one.
    """
    with timed(home, version.key, "champion"):
        verdict = checks.gate(home, config, version)
        judged = report.load(home, version.key)
        candidate = judged.entrant(verdict.candidate)
        event = registry.record(
            home,
            verdict,
            policy_id=candidate.policy_id,
            digest=candidate.digest,
            report=version.key,
            champion_id=judged.entrant(verdict.champion).policy_id if verdict.champion else None,
        )
    now = standing.successor(home, version)
    return Facts(
        digest=now.digest if now else "",
        counts={"decision": event.kind, "champion": now.policy_id if now else "none"},
        tables={"rules": verdict.rows},
    )


def champion_episodes(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Let the champion act on fresh tasks from the version's time on, captured as every agent is.

    What one champion did is found done, also when another has come to serve since.
    """
    kept = home.forthcoming / f"{version.key}.json"
    with timed(home, version.key, "champion_episodes"):
        if not kept.exists():
            serving = standing.successor(home, version)
            if serving is None:
                return Facts(counts={"episodes": 0, "success": 0.0})
            artifacts.write_json(kept, _work(home, config, version, serving.policy_id))
        return Facts(counts=artifacts.read_json(kept))


def _work(home: Home, config: WheelConfig, version: Version, policy_id: str) -> Row:
    """Play and capture the champion's episodes; returns their counts."""
    actor = find(home, policy_id).player(CHAMPION).actor
    each = config.champion_episodes // len(config.environments)
    played = []
    for name in config.environments:
        environment = environments.get(name)
        tasks = environment.tasks("train", each, WORK_TASKS + version.number)
        episodes = play(environment, tasks, actor, temperature=ACTING, seed=config.seed + version.number)
        played += [(environment, actor, episode) for episode in episodes]
    week.capture(home, config, played, since=version.as_of + timedelta(minutes=1), key=version.key)
    won = sum(episode.score.success for _, _, episode in played)
    return {"episodes": len(played), "success": won / max(1, len(played)), "champion": policy_id}

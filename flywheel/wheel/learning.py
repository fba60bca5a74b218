"""The learning stages of a version: imitate, look ahead, prefer, and learn from what was preferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel import artifacts
from flywheel.preferences import storage as preferences
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.rollout import paths, storage
from flywheel.rollout.forest import Forest, plant
from flywheel.rollout.tree import TreeConfig
from flywheel.settings import Home
from flywheel.train import run as training
from flywheel.train.config import DPORun, Run, SFTRun
from flywheel.train.run import Policy
from flywheel.wheel import standing
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts, Row
from flywheel.wheel.progress import bar
from flywheel.wheel.versions import Version, among

# Seeds of tasks apart from those of captures and of evaluation.
TREE_TASKS = 5_000_001


def sft_run(config: WheelConfig, version: Version) -> SFTRun:
    """The run that imitates a version."""
    return SFTRun(data=f"{config.corpus}@v{version.number}", steps=config.sft_steps, seed=config.seed)


def dpo_run(home: Home, config: WheelConfig, version: Version) -> DPORun:
    """The run that prefers: from whom the trees were sampled, on the pairs of all turns so far.

    A first turn takes larger steps; a policy that has been through one is improved with smaller ones.
    """
    champion = standing.incumbent(home, version)
    return DPORun(
        pairs=tuple(str(path) for path in _pooled(home, version)),
        base=champion.policy_id if champion else policy(home, sft_run(config, version)).id,
        learning_rate=config.later_dpo_learning_rate if champion else config.dpo_learning_rate,
        seed=config.seed,
    )


def rejection_run(home: Home, config: WheelConfig, version: Version) -> SFTRun:
    """The control: supervised fine-tuning on the successful paths of the same trees, from the same policy."""
    return SFTRun(
        data=str(successes(home, version)),
        base=actor_of(home, config, version).id,
        steps=config.rejection_steps,
        learning_rate=config.rejection_learning_rate,
        warmup=min(10, config.rejection_steps),
        seed=config.seed,
    )


def policy(home: Home, run: Run) -> Policy:
    """The finished policy of a run."""
    return training.load(home, training.plan(run, home)[0])


def actor_of(home: Home, config: WheelConfig, version: Version) -> Policy:
    """Who is sampled in a version's trees: the champion before it, else the version's own imitation."""
    champion = standing.incumbent(home, version)
    return training.load(home, champion.policy_id) if champion else policy(home, sft_run(config, version))


def sft(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Train the policy that imitates the corpus version."""
    return _train(home, version, "sft", sft_run(config, version))


def dpo(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Train the candidate on preference pairs."""
    return _train(home, version, "dpo", dpo_run(home, config, version))


def rejection_sampling(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Train the control on successful paths."""
    return _train(home, version, "rejection_sampling", rejection_run(home, config, version))


def _train(home: Home, version: Version, stage: str, run: Run) -> Facts:
    with timed(home, version.key, stage), bar(stage, None) as advance:

        def tell(word: dict[str, Any]) -> None:
            advance(word["step"], word["steps"])

        trained = training.run(run, home, tell)
    about = artifacts.read_json(trained.folder / "lineage.json")
    manifest = artifacts.read_json(trained.folder / artifacts.MANIFEST)
    return Facts(
        digest=trained.weights,
        counts={"policy": trained.id, "examples": about["examples"], "final loss": manifest["loss"]},
        tables={"made of": _made_of(about)},
        plots={"loss": trained.folder / "loss.png"},
    )


def _made_of(lineage: dict[str, Any]) -> list[Row]:
    """What a policy was made of, each with its digest: the policy it began as, and what it learned from."""
    rows: list[Row] = []
    base, data = lineage["base"], lineage.get("data")
    if "policy" in base:
        rows.append({"from": base["policy"], "digest": base["digest"]})
    if data:
        named = f"{data['corpus']}@v{data['version']}" if "corpus" in data else Path(data["trajectories"]).stem
        rows.append({"from": named, "digest": data["digest"]})
    rows += [
        {"from": f"pairs of {Path(p['path']).parent.name}", "digest": p["digest"]} for p in lineage.get("pairs", ())
    ]
    return rows


def trees(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Grow rollout trees on fresh tasks of templates that may be trained on."""
    from flywheel.rollout.transformers_actor import TransformersActor

    place = home.trees / version.key
    forest = Forest(
        environments=config.environments,
        tasks=config.tree_tasks,
        seed=TREE_TASKS + 1_000 * version.number + config.seed,
        tree=TreeConfig(width=config.tree_width, max_nodes=config.tree_nodes),
    )
    with timed(home, version.key, "trees"), bar("trees", forest.tasks) as advance:
        sampled = actor_of(home, config, version)
        actor = TransformersActor(sampled.model, name=sampled.id, version=sampled.weights[:12])
        plant(place, actor, forest, lambda done: advance(done, None))
        artifacts.write_parquet(successes(home, version), paths.successful(storage.load(place)))
    return trees_facts(home, version)


def trees_facts(home: Home, version: Version) -> Facts:
    """The trees of a version as facts."""
    place = home.trees / version.key
    statistics = artifacts.read_json(place / "stats.json")["statistics"]
    return Facts(digest=artifacts.read_json(place / artifacts.MANIFEST)["digest"], counts=statistics)


def successes(home: Home, version: Version) -> Path:
    """Where the successful paths of a version's trees lie, as trajectories."""
    return home.trees / f"{version.key}.successes.parquet"


def pairs(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Turn the trees of a version into preference pairs; every branch point is kept, or dropped for a reason."""
    gates = Gates()
    with timed(home, version.key, "pairs"):
        found = branches(storage.load(home.trees / version.key), gates)
        preferences.save(home.pairs / version.key, found, gates)
    return pairs_facts(home, version)


def pairs_facts(home: Home, version: Version) -> Facts:
    """The pairs of a version as facts: their digest, every branch point by reason, and what most of them teach."""
    about = artifacts.read_json(home.pairs / version.key / artifacts.MANIFEST)
    decisions = sorted(about["decisions"].items(), key=lambda item: (-item[1], item[0]))
    return Facts(
        digest=about["digest"],
        counts={"pairs": about["pairs"], "branch points": about["branch_points"]},
        tables={
            "reasons": [{"reason": reason, "branch points": n} for reason, n in about["reasons"].items()],
            "decisions": [{"decision": decision, "pairs": n} for decision, n in decisions[:20]],
        },
    )


def _pooled(home: Home, version: Version) -> list[Path]:
    """The pairs of this version and of those before it, oldest first."""
    made = among(path.parent.name for path in home.pairs.glob("*/pairs.parquet"))
    return [home.pairs / earlier.key / "pairs.parquet" for earlier in made if earlier.number <= version.number]

"""`flywheel rollout` and `flywheel pairs`: trees sampled from a policy, and the preferences in them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from flywheel import artifacts, settings
from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.schema import FlywheelError

Key = Annotated[str, typer.Argument(help="Name of the trees, as `flywheel rollout` told it.")]


@app.command()
def rollout(
    policy: Annotated[str, typer.Argument(help="Id of a policy, or folder or Hugging Face name of a model.")],
    environment: Annotated[list[str] | None, typer.Option("--env", help="Environments (default: all).")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Trees to grow, over all environments.")] = 600,
    width: Annotated[int, typer.Option(min=1, help="Steps sampled at each state.")] = 4,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes at which a tree stops branching.")] = 40,
    depth: Annotated[int, typer.Option(min=1, help="Steps of a path, at most.")] = 8,
    temperature: Annotated[float, typer.Option(min=0.01, help="Sampling temperature.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of tasks and samples.")] = 0,
    json: Json = False,
) -> None:
    """Grow rollout trees: sample several steps at each state and carry each out on a fork.

    The same request finds the trees grown before. Trees come from training templates alone.

    Example: flywheel rollout sft-3f57ce05eaa9426f --env desk --tasks 200
    """
    from flywheel import environments
    from flywheel.rollout.forest import Forest, plant
    from flywheel.rollout.transformers_actor import TransformersActor
    from flywheel.rollout.tree import TreeConfig
    from flywheel.train.inputs import describe_base

    home = access.policies("admin", policy)
    shape = TreeConfig(width=width, max_nodes=nodes, max_depth=depth, temperature=temperature)
    forest = Forest(environments=tuple(environment or environments.names()), tasks=tasks, seed=seed, tree=shape)
    model = describe_base(home, policy)
    version = model.get("digest", "")[:16]
    key = f"{policy.rsplit('/', 1)[-1]}-{_short(forest, version)}"
    actor = TransformersActor(model["model"], name=policy, version=version)
    with progress() as display:
        bar = display.add_task("growing trees", total=tasks)
        found = plant(home.trees / key, actor, forest, lambda done: display.update(bar, completed=done))
    if json:
        emit({"key": key, "statistics": found})
        return
    table(f"Trees {key}", ("figure", "value"), ((k, _figure(v)) for k, v in msgspec.to_builtins(found).items()))
    say(f"next: flywheel pairs {key}")


@app.command()
def pairs(
    trees: Key,
    margin: Annotated[float, typer.Option(help="Least gap between chances of success.")] = 0.6,
    probability: Annotated[float, typer.Option(help="Least probability that the chosen step is better.")] = 0.8,
    json: Json = False,
) -> None:
    """Make preference pairs from the branch points of trees that pass the gates, and say why others do not.

    Example: flywheel pairs sft-3f57ce05eaa9426f-0c2f --margin 0.5
    """
    from flywheel.preferences import storage
    from flywheel.preferences.gates import Gates
    from flywheel.preferences.pairs import branches
    from flywheel.rollout import storage as forests

    home = access.trees("admin", trees)
    gates = Gates(margin=margin, probability=probability)
    digest = artifacts.read_json(home.trees / trees / artifacts.MANIFEST)["digest"] if _grown(home, trees) else ""
    key = f"{trees}-{_short(gates, digest)}"
    manifest = storage.save(home.pairs / key, branches(forests.load(home.trees / trees), gates), gates)
    if json:
        emit({"key": key, **manifest})
        return
    table(
        f"Pairs {key}: {manifest['pairs']} of {manifest['branch_points']} branch points",
        ("reason", "branch points"),
        manifest["reasons"].items(),
    )
    table("What they teach", ("decision", "pairs"), sorted(manifest["decisions"].items(), key=lambda d: -d[1]))
    say(f"next: flywheel train dpo {key} --base POLICY")


def _grown(home: settings.Home, trees: str) -> bool:
    if not (home.trees / trees / artifacts.MANIFEST).is_file():
        raise FlywheelError(f"there are no rollout trees {trees!r}; grow some with `flywheel rollout`")
    return True


def _short(config: msgspec.Struct, digest: str) -> str:
    from flywheel.schema import canonical_json, stable_id

    return stable_id(canonical_json(msgspec.to_builtins(config)), digest)[:8]


def _figure(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

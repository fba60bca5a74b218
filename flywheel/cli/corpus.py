"""`flywheel snapshot` and `flywheel corpus`: versions of training rows, and what each of them holds and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.cli.times import MOMENTS, utc
from flywheel.schema import FlywheelError
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.curate.spec import Spec
    from flywheel.outcomes.policy import Signal

corpus_app = typer.Typer(help="Corpus: versions, what changed between them, and why a row is in.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")

Reference = Annotated[
    str, typer.Argument(help="A version, as NAME@v3, NAME@BRANCH or NAME@TAG; NAME alone is its newest on main.")
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Where episodes are fingerprinted: in this process, or by Ray (at RAY_ADDRESS, else on all cores)."
    ),
]


@app.command()
def snapshot(
    workspace: Annotated[str, typer.Argument(help="The workspace whose captures are taken.")],
    to: Annotated[str, typer.Option("--to", help="The corpus that gets a version.")],
    filter: Annotated[
        str | None,
        typer.Option(help="SQL condition on a training row, such as 'reward > 0 AND task_type = 'desk''."),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(help="Take what had arrived by this moment (UTC); now unless given.", formats=MOMENTS),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="A reward policy (TOML or JSON).")] = None,
    branch: Annotated[str, typer.Option(help="The branch of the corpus that gets the version.")] = "main",
    engine: Engine = "local",
    json: Json = False,
) -> None:
    """Freeze what a workspace has captured as the next version of a corpus.

    Filter and reward policy are those of the branch's newest version unless given; for a first version the wheel's
    own in its workspace, else `success` by the signal `reward`. Held-out tasks are kept aside whatever the filter
    says. The same demand as of the same moment is the same version.

    Example: flywheel snapshot airline --filter 'reward > 0' --to airline

    Example: flywheel snapshot production --to corpus --as-of 2026-11-09T00:00:00Z --json
    """
    from flywheel.capture import workspaces
    from flywheel.capture.settling.settle import settle
    from flywheel.corpus.catalog import refresh
    from flywheel.corpus.snapshot import snapshot as freeze
    from flywheel.outcomes import policy as policies
    from flywheel.wheel import forget

    workspaces.require(access.allowed("admin", workspace, f"corpus {to}"), workspace)
    access.growing("admin", to)
    forget.finish(home())
    now = datetime.now(UTC)
    moment = utc(as_of) if as_of else now
    spec = _spec(workspace, to, branch)
    if filter is not None:
        spec = msgspec.structs.replace(spec, filter=filter)
    if policy is not None:
        spec = msgspec.structs.replace(spec, reward_policy=policies.load(policy))
    settle(home(), workspace, now=min(now, moment))
    if moment > now:
        say(f"{moment.isoformat()} lies ahead: what arrives until then will be missing from this version")
    made = freeze(home(), to, spec, moment, branch=branch, engine=engine)
    refresh(home())
    if not made.candidates:
        say(f"nothing had arrived in {workspace} by {moment.isoformat()}: the version is empty")
    if json:
        emit(made)
        return
    say(f"{made.name}@v{made.version} {'made' if made.created else 'is already that'}: digest {made.digest[:12]}")
    print_reasons(made)


def _spec(workspace: str, corpus: str, branch: str) -> Spec:
    """What the corpus was asked for last, else what the wheel asks of its workspace, else the default."""
    from flywheel.corpus.manifest import branches, manifest
    from flywheel.curate.spec import Spec
    from flywheel.wheel.config import load
    from flywheel.wheel.versioning import spec

    if branch in branches(home(), corpus):
        newest = manifest(home(), corpus, branch)
        if newest.recipe["workspace"] == workspace:
            return newest.spec
    config = load(home())
    return spec(config) if workspace == config.workspace else Spec(workspace=workspace)


@corpus_app.command("list")
def list_corpora(json: Json = False) -> None:
    """List the corpora with their newest versions.

    Example: flywheel corpus list
    """
    from flywheel.corpus.manifest import manifest, names

    seen = access.seen("read")
    newest = [manifest(home(), name) for name in (names(home()) if seen is None else seen.corpora)]
    if json:
        emit(newest)
        return
    table(
        "corpora", ["corpus", "newest", "as of", "rows"], [(m.name, f"v{m.version}", m.as_of, m.rows) for m in newest]
    )


@corpus_app.command("log")
def log(
    name: Annotated[str, typer.Argument(help="The corpus.")],
    branch: Annotated[str | None, typer.Option(help="One branch; all unless given.")] = None,
    json: Json = False,
) -> None:
    """List the versions of a corpus, newest first, with their branches and tags, and how many rows were erased since.

    Example: flywheel corpus log airline

    Example: flywheel corpus log airline --branch strict --json
    """
    from flywheel.corpus import erased, history, reference
    from flywheel.corpus.manifest import tags

    name = reference.parse(name)[0]
    access.corpora("read", name)
    manifests = history.log(home(), name, branch)
    gone = erased.told(home())
    labels = {m.version: [t.name for t in tags(home(), name) if t.version == m.version] for m in manifests}
    if json:
        fields = (
            "name",
            "version",
            "branch",
            "digest",
            "as_of",
            "rows",
            "splits",
            "candidates",
            "reasons",
            "parents",
            "created_at",
        )
        told = [{field: getattr(m, field) for field in fields} for m in manifests]
        emit([t | {"tags": labels[t["version"]], "erased": gone[f"{name}@v{t['version']}"]} for t in told])
        return
    columns = ["version", "branch", "from", "as of", "train", "held out", "erased", "of", "filter", "digest", "tags"]
    rows = []
    for m in manifests:
        sides = (m.splits.get("train", 0), m.splits.get("heldout", 0))
        moment = f"{m.as_of:%Y-%m-%d %H:%M}"
        parents = ", ".join(f"v{parent}" for parent in m.parents)
        about = (gone[m.ref] or "", m.candidates, m.recipe["filter"], m.digest[:8], labels[m.version])
        rows.append((f"v{m.version}", m.branch, parents, moment, *sides, *about))
    table(name, columns, rows)


@corpus_app.command("show")
def show(version: Reference, json: Json = False) -> None:
    """Show what a version was asked for and what it holds.

    Example: flywheel corpus show airline@v1 --json
    """
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest

    found = manifest(access.corpora("read", version), *reference.parse(version))
    if json:
        emit(found)
        return
    fields = ("branch", "digest", "recipe_hash", "as_of", "created_at", "candidates", "rows")
    recipe = {name: value for name, value in sorted(found.recipe.items()) if name != "reward_policy"}
    rows = [("parents", [f"v{parent}" for parent in found.parents]), *((name, getattr(found, name)) for name in fields)]
    rows += [(f"{side} rows", count) for side, count in sorted(found.splits.items())]
    table(found.ref, ["field", "value"], [*rows, *(("recipe: " + name, _said(recipe[name])) for name in recipe)])
    policy = found.spec.reward_policy
    table(
        f"reward policy {policy.name}: {policy.combine} of the signals, success at {policy.success_at:g}, "
        f"{'the latest counts' if policy.on_conflict == 'latest' else 'held'} where voices disagree",
        ["signal", "tier", "weight", "required", "waits", "silence", "checker versions", "steps"],
        [_signal(signal) for signal in policy.signals],
    )
    print_reasons(found)


def _said(value: Any) -> Any:
    """A setting for people: of several, those that are set."""
    if not isinstance(value, dict):
        return value
    return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None) or "none"


def _signal(signal: Signal) -> tuple[Any, ...]:
    hours = {"": signal.wait_hours, **signal.wait_by_task_type}
    waits = ", ".join(f"{kind} {wait:g} h".strip() for kind, wait in hours.items())
    versions = "newest" if signal.newest_version else signal.checker_versions or "all"
    silence = "says nothing" if signal.silence is None else f"{signal.silence:g}"
    about = (signal.name, signal.tier, f"{signal.weight:g}", "yes" if signal.required else "no")
    return (*about, waits, silence, versions, signal.steps)


@corpus_app.command("why")
def why(
    row: Annotated[str, typer.Argument(help="A trajectory's id, or a beginning of it that no other has.")],
    version: Annotated[str | None, typer.Argument(help="One corpus, or one version of it; all unless given.")] = None,
    json: Json = False,
) -> None:
    """Tell why a row is in or out of each version: decision, source line, and the outcomes behind its reward.

    Example: flywheel corpus why 5f2c0d6b

    Example: flywheel corpus why 5f2c0d6b airline@v2 --json
    """
    from flywheel.corpus import history, reference

    name, number = reference.parse(version) if version else (None, None)
    seen = None if version else access.seen("read")
    if version:
        access.corpora("read", version)
    told = history.why(home(), name, row, number, corpora=seen and seen.corpora)
    if json:
        emit(told)
        return
    where = told.get("source", "unknown source") + (f", line {told['source_line']}" if told.get("source_line") else "")
    say(f"{told['trajectory_id']} of task {told.get('task_id')} by {told.get('agent')}, from {where}")
    columns = ["corpus", "version", "branch", "kept", "split", "reason", "detail", "reward", "state"]
    table("decisions", columns, [[decision[column] for column in columns] for decision in told["decisions"]])
    columns = ["signal", "value", "source", "observed_at", "arrived_at", "counted_in"]
    table("outcomes", columns, [[fact[column] for column in columns] for fact in told["outcomes"]])


@corpus_app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(help="The version before: NAME@v1, NAME@BRANCH or NAME@TAG.")],
    after: Annotated[str, typer.Argument(help="The version after, of the same corpus.")],
    limit: Annotated[int, typer.Option(help="Rows to print; --json gives all.")] = 40,
    json: Json = False,
) -> None:
    """Tell which rows came in, went out or changed between two versions, and what did it.

    Example: flywheel corpus diff airline@v1 airline@v2
    """
    from flywheel.corpus import reference
    from flywheel.corpus.diff import diff as compare

    (name, a), (other, b) = reference.parse(before), reference.parse(after)
    if name != other:
        raise FlywheelError(
            f"{name} and {other} are two corpora, and a diff is of one; see flywheel corpus compare {before} {after}"
        )
    told = compare(access.corpora("read", name), name, a, b)
    if json:
        emit(told)
        return
    counts = [(change, told[change]) for change in ("in", "out", "changed", "same")]
    table(f"{name} v{told['a']} to v{told['b']}", ["rows", "count"], counts)
    table("by cause", ["why", "rows"], told["whys"].items())
    columns = ["trajectory", "change", "why", "before", "after", "outcomes"]
    table("rows", columns, [_printed(row) for row in told["rows"][:limit]])
    if len(told["rows"]) > limit:
        say(f"and {len(told['rows']) - limit} more rows: --limit {len(told['rows'])}, or --json")


def _printed(row: dict[str, Any]) -> tuple[Any, ...]:
    sides = [f"{side['reason']}, reward {side['reward']}" if side else "-" for side in (row["before"], row["after"])]
    facts = "; ".join(f"{o['signal']} {o['value']:g} ({o['counts']})" for o in row["outcomes"])
    return (row["trajectory_id"], row["change"], row["why"], *sides, facts)


def print_reasons(of: Any) -> None:
    title = f"{of.candidates} candidates, {of.rows} rows"
    table(title, ["reason", "candidates"], sorted(of.reasons.items(), key=lambda item: -item[1]))

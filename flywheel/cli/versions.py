"""`flywheel corpus branch|tag|merge|gc|verify|rebuild`: versions of a corpus, and whether they are whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from flywheel.cli import access
from flywheel.cli.corpus import Engine, Reference, corpus_app, print_reasons
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.settings import home

Corpus = Annotated[str, typer.Argument(help="The corpus.")]


@corpus_app.command("branch")
def branch(
    name: Corpus,
    new: Annotated[str | None, typer.Argument(help="The branch to begin; the branches are listed without it.")] = None,
    at: Annotated[str, typer.Option("--from", help="The version to leave: v3, a branch or a tag.")] = "latest",
    filter: Annotated[str | None, typer.Option(help="Another SQL condition on training rows.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Another reward policy (TOML or JSON).")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Give the branch up.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Give it up even if policies were trained on it.")] = False,
    json: Json = False,
) -> None:
    """Begin a branch: another selection or reward policy on the same captures, of which nothing is copied.

    Its first version decides as of the same time as the version that it leaves. Further ones come by
    `flywheel snapshot --branch`, and `flywheel corpus merge` brings what it asks for to another branch.

    Example: flywheel corpus branch airline strict --from v3 --filter 'reward = 1 AND n_steps < 40'

    Example: flywheel corpus branch airline
    """
    from flywheel.corpus import gc, reference
    from flywheel.corpus.manifest import branches, load, manifest
    from flywheel.corpus.snapshot import branch as begin
    from flywheel.outcomes import policy as policies

    access.corpora("read" if new is None else "admin", name)
    if new is None:
        heads = [load(home(), name, version) for version in branches(home(), name).values()]
        if not heads:
            manifest(home(), name)  # says what there is
        if json:
            emit([{"branch": m.branch, "version": m.version, "as_of": m.as_of, "rows": m.rows} for m in heads])
            return
        table(
            name, ["branch", "newest", "as of", "rows"], [(m.branch, f"v{m.version}", m.as_of, m.rows) for m in heads]
        )
        return
    if delete:
        gone = gc.remove_branch(home(), name, new, force=force)
        if json:
            emit({"branch": new, "removed": gone})
        else:
            numbers = ", ".join(f"v{version}" for version in gone)
            say(f"branch {new} is gone ({numbers}); free what it used with: flywheel corpus gc")
        return
    spec = manifest(home(), name, reference.within(at)).spec
    if filter is not None:
        spec = msgspec.structs.replace(spec, filter=filter)
    if policy is not None:
        spec = msgspec.structs.replace(spec, reward_policy=policies.load(policy))
    _told(begin(home(), name, new, spec, reference.within(at)), json)


@corpus_app.command("tag")
def tag(
    name: Corpus,
    label: Annotated[str | None, typer.Argument(help="The tag; the tags are listed without it.")] = None,
    version: Annotated[str, typer.Argument(help="The version that it names: v3, a branch or a tag.")] = "latest",
    delete: Annotated[bool, typer.Option("--delete", help="Take the tag away; the version stays.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move a tag that names another version.")] = False,
    json: Json = False,
) -> None:
    """Name a version, so that NAME@TAG finds it and nothing reclaims it.

    Example: flywheel corpus tag airline baseline v3
    """
    from flywheel.corpus import manifest, reference

    access.corpora("read" if label is None else "admin", name)
    if label is None:
        found = manifest.tags(home(), name)
        if json:
            emit(found)
            return
        columns = ["tag", "version", "digest", "since"]
        table(name, columns, [(t.name, f"v{t.version}", t.digest[:12], t.created_at) for t in found])
        return
    if delete:
        manifest.untag(home(), name, label)
        emit({"tag": label, "removed": True}) if json else say(f"tag {label} is gone")
        return
    made = manifest.tag(home(), name, label, reference.within(version), datetime.now(UTC), force=force)
    emit(made) if json else say(f"{name}@{label} is v{made.version}")


@corpus_app.command("merge")
def merge(
    name: Corpus,
    source: Annotated[str, typer.Argument(help="What is merged: a branch, a tag or a version.")],
    into: Annotated[str, typer.Option(help="The branch that gets a new version.")] = "main",
    prefer: Annotated[
        Literal["ours", "theirs"] | None, typer.Option(help="Whose choice counts where both changed the same.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a version on one branch that asks for what another asks for: filter, reward policy, duplicates, caps.

    Each choice is taken from the side that changed it since they parted. Rows follow from it, each with its reason.

    Example: flywheel corpus merge airline strict
    """
    from flywheel.corpus import reference
    from flywheel.corpus.merge import merge as merged

    _told(merged(access.corpora("admin", name), name, reference.within(source) or "main", into, prefer), json)


@corpus_app.command("gc")
def gc(
    name: Annotated[str | None, typer.Argument(help="One corpus; all unless given.")] = None,
    older_than: Annotated[float, typer.Option(help="Hours for which readers of old states are left alone.")] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Free the space that no version needs: decisions of removed branches, leftovers of crashes, old states of tables.

    Example: flywheel corpus gc --dry-run
    """
    from flywheel.corpus.gc import collect

    corpora = None if name is None else [name]
    found = collect(access.everywhere("admin"), corpora, older_than=timedelta(hours=older_than), dry_run=dry_run)
    if json:
        emit(found)
        return
    for path in found.removed:
        say(f"{'would remove' if dry_run else 'removed'} {path}")
    say(f"{found.bytes:,} bytes {'would be free' if dry_run else 'are free'}")


@corpus_app.command("verify")
def verify(version: Reference, json: Json = False) -> None:
    """Read every row of a version and compare it with its digests; ends with 1 where something is wrong.

    What was erased since (`flywheel forget`) is told, and is not wrong: the digests of a version hold for ever.

    Example: flywheel corpus verify airline@v1
    """
    from flywheel.corpus import erased, reference
    from flywheel.corpus.manifest import manifest
    from flywheel.corpus.verify import verify as check

    access.corpora("read", version)
    with progress() as display:
        task = display.add_task("rows", total=None)
        wrong = check(
            home(),
            *reference.parse(version),
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )
    notes = erased.notes(home(), manifest(home(), *reference.parse(version)))
    if json:
        emit({"version": version, "whole": not wrong, "wrong": wrong, "erased": notes})
    else:
        say("\n".join([*wrong, *map(str, notes)] or [f"{version} is whole"]))
    if wrong:
        raise typer.Exit(1)


@corpus_app.command("rebuild")
def rebuild(
    version: Reference,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take what was computed of the captures as it is; decide alone anew.")
    ] = False,
    engine: Engine = "local",
    json: Json = False,
) -> None:
    """Decide a version again from the raw captures, compare, and restore its data where that is missing or damaged.

    Ends with 1 where the captures no longer give the version, but for what was erased since (`flywheel forget`); it
    stays as it is, and each row that differs is told.

    Example: flywheel corpus rebuild airline@v1
    """
    from flywheel.corpus import reference
    from flywheel.corpus.rebuild import rebuild as again

    result = again(access.corpora("admin", version), *reference.parse(version), raw=not quick, engine=engine)
    if json:
        emit(result)
    elif result.same:
        done = f"; restored {' and '.join(result.restored)}" if result.restored else ""
        say(f"{result.name}@v{result.version} has the same digest, {result.digest[:12]}{done}")
    else:
        say(f"{result.name}@v{result.version} is {result.expected[:12]}; the captures now give {result.digest[:12]}")
        for cause in result.causes:
            say(f"  {cause}")
        rows = [
            (row["trajectory_id"], row["change"], _side(row["before"]), _side(row["now"]), row["why"])
            for row in result.differences
        ]
        table("rows that differ", ["trajectory_id", "change", "before", "now", "why"], rows)
    if not result.explained:
        raise typer.Exit(1)


def _side(side: dict[str, Any] | None) -> str:
    if side is None:
        return "-"
    detail = f" ({side['detail']})" if side["detail"] else ""
    return f"{side['reason']}{detail}, reward {side['reward']}"


def _told(made: Any, json: bool) -> None:
    if json:
        emit(made)
        return
    how = "made" if made.created else "is already that"
    say(f"{made.ref} on branch {made.branch} {how}: digest {made.digest[:12]}")
    print_reasons(made)

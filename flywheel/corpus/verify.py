"""Verifying: whether a version is, byte for byte, what its digests say."""

from __future__ import annotations

from collections.abc import Callable

from flywheel import artifacts
from flywheel.corpus import decisions, erased, store
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.curate import derived, prepared
from flywheel.schema import FlywheelError, content_digest, trajectory_of
from flywheel.settings import Home


def verify(
    home: Home, name: str, ref: int | str | None = None, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """What is wrong with a version as it is stored; nothing where it is whole.

    Every row is read and its content hashed again and compared with its decision; the digests are taken anew; the files
    of captures and outcomes that it was made of must be there, each with its digest. What was erased since is not
    wrong: its decisions stand and make the digests; its content is gone, and files have given way to those without it
    (`erased.notes` tells of it). `progress` is told how many rows of how many are read.
    """
    of = manifest(home, name, ref)
    wrong = inputs_wrong(home, of)
    try:
        decided = decisions.decisions(home, of)
    except FlywheelError as error:
        return [*wrong, str(error)]
    if decisions.digest(decided) != of.decisions_digest or not decisions.sound(decided):
        wrong.append("the decisions are not those of the manifest")
    kept = decided.filter(decided["kept"])
    if decisions.rows_digest(kept["row_digest"]) != of.digest:
        wrong.append("the rows do not have the digest of the manifest")
    seen = 0
    try:
        for batch in store.batches(home, of):
            for row in batch.to_pylist():
                if content_digest(trajectory_of(row)) != row["content_digest"]:
                    wrong.append(f"the content of row {row['id']} is not what was captured")
            seen += batch.num_rows
            if progress:
                progress(seen, of.rows)
    except FlywheelError as error:
        wrong.append(str(error))
    return wrong


def inputs_wrong(home: Home, of: Manifest) -> list[str]:
    """The files that a version was made of which are gone, or are not what they were."""
    wrong = []
    for name, expected in sorted(of.inputs.items()):
        now = erased.now(home, of.recipe["workspace"], name)
        if now is None:
            continue
        path = home.data / now
        if str(now) != name:
            expected = path.stem
        if not path.exists():
            wrong.append(f"{now} is gone")
        elif not artifacts.file_digest(path).startswith(expected):
            wrong.append(f"{now} is not what it was")
    return wrong


def unreadable(home: Home, workspace: str) -> str | None:
    """Why the content of a workspace's captures cannot be read where it is prepared; None where it can."""
    try:
        dataset = derived.opened(home, workspace, prepared.ROWS)
        for _ in dataset.to_batches():
            pass
    except (FlywheelError, OSError, ValueError) as error:
        return str(error).splitlines()[0]
    return None

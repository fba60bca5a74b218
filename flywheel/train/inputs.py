"""What a run reads: rows, pairs and the base policy, each with the digest that names its content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from flywheel.corpus.manifest import Manifest


def weights_digest(model: Path) -> str:
    """SHA-256 over the weight files of a model's folder, in name order."""
    digests = [artifacts.file_digest(path) for path in sorted(model.glob("*.safetensors"))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def describe_data(home: Home, data: str) -> dict[str, Any]:
    """Where rows come from: a corpus version with its digest, or a Parquet file with its.

    Raises:
        FlywheelError: when there is neither.
    """
    path = Path(data)
    if path.suffix == ".parquet":
        if not path.is_file():
            raise FlywheelError(f"there is no file of trajectories {data}")
        return {"trajectories": str(path), "digest": artifacts.file_digest(path)}
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest

    found = manifest(home, *reference.parse(data))
    return {"corpus": found.name, "version": found.version, "digest": found.digest}


def rows(home: Home, described: dict[str, Any]) -> pa.Table:
    """The training rows of described data.

    Raises:
        FlywheelError: when it is a version that nothing may be trained on; see `version`.
    """
    if "trajectories" in described:
        return pq.read_table(described["trajectories"])
    from flywheel.corpus import store

    of = version(home, described)
    return store.rows(home, of.name, of.version, "train")


def version(home: Home, described: dict[str, Any]) -> Manifest:
    """The corpus version that described data is.

    Raises:
        FlywheelError: when it is held: nothing is trained on it before a person lets it graduate; or when rows of it
            were erased: what is left of it is not what its digest says.
    """
    from flywheel.corpus import erased
    from flywheel.corpus.defence import graduation
    from flywheel.corpus.manifest import manifest

    of = manifest(home, described["corpus"], described["version"])
    if notes := [str(note) for note in erased.notes(home, of) if note.rows]:
        raise FlywheelError(
            f"{of.ref} is not whole any more: {'; '.join(notes)}. Train on the version that was made without them: "
            f"flywheel corpus log {of.name}"
        )
    graduation.require_graduated(home, of)
    return of


def pair_files(pairs: tuple[str, ...]) -> list[Path]:
    """The Parquet files that references to pairs name, in the order given.

    Raises:
        FlywheelError: when one is absent.
    """
    paths = [Path(name) if name.endswith(".parquet") else Path(name) / "pairs.parquet" for name in pairs]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise FlywheelError(f"there are no pairs at {', '.join(missing)}; make them with `flywheel pairs`")
    return paths


def describe_base(home: Home, base: str) -> dict[str, Any]:
    """The model that training starts from: `scratch`, a policy of this home, a folder, or a Hugging Face OWNER/NAME.

    Raises:
        FlywheelError: when the name is none of these.
    """
    if base == "scratch":
        return {"model": "scratch"}
    manifest = home.policies / base / artifacts.MANIFEST
    if "/" not in base and manifest.is_file():
        digest = artifacts.read_json(manifest)["weights"]
        return {"policy": base, "digest": digest, "model": str(manifest.parent / "model")}
    if Path(base).is_dir():
        return {"model": base, "digest": weights_digest(Path(base))}
    if "/" not in base:
        known = sorted(path.parent.name for path in home.policies.glob(f"[!.]*/{artifacts.MANIFEST}"))
        raise FlywheelError(
            f"there is no policy {base!r}, nor a folder of that name; a Hugging Face model is written OWNER/NAME, "
            f"and the policies are: {', '.join(known) or 'none yet'}"
        )
    return {"model": base}

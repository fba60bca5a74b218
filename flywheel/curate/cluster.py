"""Ray: what follows from captured content is computed by the workers of a cluster, and committed here."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel import settings
from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate.derivation import Derivation
from flywheel.curate.spec import Spec
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance.fragment import FragmentMetadata

# How often a file is computed again whose worker died.
RETRIES = 3

# Bytes of the store of objects, where Ray is started here: what goes through it is small.
OBJECTS = 100 << 20

# What computes: workers of other releases could give other values under the same recipe.
_PACKAGES = ("flywheel", "numpy", "polars", "duckdb", "pyarrow", "pylance")


def prepare(home: Home, spec: Spec) -> None:
    """Bring on a cluster all that decisions by a spec lean on; whoever decides then finds it.

    Raises:
        FlywheelError: when Ray is not installed, the cluster cannot be reached, or its workers cannot compute.
    """
    with connected():
        derived.bring(home, spec.workspace, prepared.ROWS, engine="ray")
        if spec.near_duplicates:
            derived.bring(home, spec.workspace, fingerprint.derivation(spec.near_duplicates), engine="ray")


@contextmanager
def connected() -> Iterator[None]:
    """A connection to the cluster that `RAY_ADDRESS` names, else to one that is started here and ends with the block.

    Whoever is connected already stays so.

    Raises:
        FlywheelError: when Ray is not installed, or the cluster cannot be reached.
    """
    # Else Ray tells its makers of every cluster that it starts.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray  # pyright: ignore[reportMissingImports]  # in the extra
    except ImportError as error:
        raise FlywheelError(
            "Ray is not installed; install it with: pip install 'flywheel[ray]', or leave --engine out"
        ) from error
    if ray.is_initialized():
        yield
        return
    address = settings.ray_address()
    own = {} if address else {"include_dashboard": False, "object_store_memory": OBJECTS}
    try:
        with warnings.catch_warnings():
            # Lance warns of forks; those of Ray become programs of their own at once.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise FlywheelError(
            f"no connection to Ray at {address or 'a cluster of our own'} ({str(error).splitlines()[0]}); "
            "see whether it runs (ray status), and set RAY_AUTH_MODE as it is set there; or leave --engine out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def fragments(
    derivation: Derivation, path: Path, groups: list[list[list[Path]]], told: Callable[[int], None]
) -> Iterator[list[FragmentMetadata]]:
    """The derived rows of captures files as fragments of a table, not yet in it: one list a group, in their order.

    Each part of a group is one task. `told` is told the rows of each that is done. Where one fails for good, the
    others are given up.

    Raises:
        FlywheelError: what a task raised, or that the cluster could not run it.
    """
    import ray  # pyright: ignore[reportMissingImports]  # in the extra
    from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

    with connected():
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_written)
        given = ray.put((derivation, path, _releases()))
        running = [[task.remote(given, part) for part in group] for group in groups]
        try:
            for group in running:
                done = []
                for part in group:
                    made, rows = ray.get(part)
                    done += made
                    told(rows)
                yield done
        except BaseException as error:
            for part in (part for group in running for part in group):
                ray.cancel(part, force=True)
            if isinstance(error, RayTaskError):
                raise error.cause from None
            if isinstance(error, RayError):
                raise FlywheelError(
                    f"the cluster could not compute {derivation.name!r} ({str(error).strip().splitlines()[0]}); what "
                    "was committed stands: run this again"
                ) from error
            raise


def _written(given: tuple[Derivation, Path, dict[str, str]], files: list[Path]) -> tuple[list[FragmentMetadata], int]:
    derivation, path, releases = given
    if releases != _releases():
        other = {name: version for name, version in _releases().items() if version != releases[name]}
        raise FlywheelError(f"a worker has {other}, where {releases} is asked for: install the same on every node")
    return derived.fragments(derivation, path, files)


def _releases() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}

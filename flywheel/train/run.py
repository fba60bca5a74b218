"""A training run, from its config to a finished policy: found done, resumed, or begun."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.rollout.quiet import quiet
from flywheel.schema import FlywheelError, canonical_json, stable_id
from flywheel.settings import Home
from flywheel.train import inputs, policy
from flywheel.train.config import DPORun, Run, SFTRun
from flywheel.train.loop import last_complete, metrics, watch

log = logging.getLogger(__name__)

Progress = Callable[[dict[str, Any]], None]

# Raised when the same config and inputs would give other weights.
RECIPE = "2"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A finished policy: its id, its folder, and the SHA-256 of its weights."""

    id: str
    kind: str
    folder: Path
    weights: str

    @property
    def model(self) -> Path:
        """The folder of model and tokenizer in Hugging Face format."""
        return self.folder / "model"


def load(home: Home, policy_id: str) -> Policy:
    """A finished policy.

    Raises:
        FlywheelError: when there is none of that id.
    """
    folder = home.policies / policy_id
    if not (folder / artifacts.MANIFEST).is_file():
        raise FlywheelError(f"there is no policy {policy_id!r}; train one with `flywheel train`")
    return _policy(folder)


def plan(config: Run, home: Home) -> tuple[str, dict[str, Any]]:
    """The id that a run's policy has or will have, and its lineage: equal config and inputs, equal id."""
    lineage: dict[str, Any] = {
        "kind": _kind(config),
        "base": inputs.describe_base(home, config.base),
        "seed": config.seed,
    }
    if isinstance(config, SFTRun):
        lineage["data"] = inputs.describe_data(home, config.data)
    else:
        lineage["pairs"] = [
            {"path": str(path), "digest": artifacts.file_digest(path)} for path in inputs.pair_files(config.pairs)
        ]
    choices = msgspec.to_builtins(config)
    digests = [lineage["base"].get("digest", ""), lineage.get("data", {}).get("digest", "")]
    digests += [part["digest"] for part in lineage.get("pairs", ())]
    for name in ("data", "pairs", "base"):
        # What the name leads to decides, not the name.
        choices.pop(name, None)
    name = lineage["base"].get("digest", lineage["base"]["model"])
    return f"{lineage['kind']}-{stable_id(RECIPE, canonical_json(choices), name, *digests)[:16]}", lineage


def run(config: Run, home: Home, progress: Progress | None = None) -> Policy:
    """Train a policy into `policies/ID/`, or find it there.

    Killed at any moment and run again, it goes on from its last checkpoint, and ends in the same weights.
    `progress` is told of each step: {"step", "steps", "loss"}.

    Raises:
        FlywheelError: when inputs are missing or hold nothing to train on.
    """
    policy_id, lineage = plan(config, home)
    folder, work = home.policies / policy_id, home.policies / f".{policy_id}.work"
    if (folder / artifacts.MANIFEST).is_file():
        shutil.rmtree(work, ignore_errors=True)
        return _policy(folder)
    with quiet():
        trainer, examples = _trainer(config, home, lineage, work / "checkpoints")
        watch(trainer, progress)
        checkpoint = last_complete(work / "checkpoints")
        if checkpoint:
            log.info("going on from %s", checkpoint.name)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        history = metrics(trainer.state.log_history)
        with artifacts.folder(folder) as beside:
            policy.save(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, beside / "model")
            _describe(beside, policy_id, config, {**lineage, "examples": examples}, history)
    shutil.rmtree(work, ignore_errors=True)
    return _policy(folder)


def _policy(folder: Path) -> Policy:
    found = artifacts.read_json(folder / artifacts.MANIFEST)
    return Policy(id=folder.name, kind=found["kind"], folder=folder, weights=found["weights"])


def _kind(config: Run) -> str:
    return "sft" if isinstance(config, SFTRun) else "dpo"


def _trainer(config: Run, home: Home, lineage: dict[str, Any], folder: Path) -> tuple[Any, int]:
    base = lineage["base"]["model"]
    if isinstance(config, DPORun):
        from flywheel.train import dpo

        tables = [pq.read_table(part["path"]) for part in lineage["pairs"]]
        return dpo.trainer(config, pa.concat_tables(tables), base, folder)
    from flywheel.train import sft

    return sft.trainer(config, home, lineage["data"], base, folder)


def _describe(
    folder: Path, policy_id: str, config: Run, lineage: dict[str, Any], history: list[dict[str, Any]]
) -> None:
    """Write what the run was and how it went beside its model; the manifest last."""
    artifacts.write_json(folder / "config.json", config)
    code = {name: version(name) for name in ("flywheel", "torch", "transformers", "trl")}
    artifacts.write_json(folder / "lineage.json", {**lineage, "code": code})
    artifacts.write_bytes(
        folder / "metrics.jsonl", b"".join(msgspec.json.encode(row, order="sorted") + b"\n" for row in history)
    )
    _plot(folder / "loss.png", history)
    manifest = {
        "id": policy_id,
        "kind": lineage["kind"],
        "weights": inputs.weights_digest(folder / "model"),
        "loss": _smooth([row["loss"] for row in history])[-1],
    }
    artifacts.write_json(folder / artifacts.MANIFEST, manifest)


def _plot(path: Path, history: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="tight")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    steps, losses = [row["step"] for row in history], [row["loss"] for row in history]
    axes.plot(steps, losses, alpha=0.3)
    axes.plot(steps, _smooth(losses), color="C0")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _smooth(losses: list[float], over: int = 10) -> list[float]:
    """The mean of the last steps, at each step."""
    return [sum(last) / len(last) for last in (losses[max(0, i - over) : i] for i in range(1, len(losses) + 1))]

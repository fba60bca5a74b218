"""Reward policies: which signals make a reward, how long to wait for them, and what their silence means."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from flywheel.schema import FlywheelError, canonical_json

Combine = Literal["min", "mean", "first"]
Steps = Literal["mean", "sum", "min", "last"]


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signal of a policy.

    `wait_hours` counts from the arrival of the trajectory, and `wait_by_task_type` gives other hours for some
    task types: until then a silent signal keeps the verdict pending. Afterwards `silence` is taken for its
    value; None assumes nothing, and then a `required` signal leaves the trajectory without a verdict while
    another is left out. A signal that speaks after its wait is still heard, by every join as of a later time.

    Of the signals that spoke, those of the highest `tier` alone make the reward: nothing below it counts, is
    required or waited for, or conflicts. Where none spoke, the highest tier whose silence has a value does.
    `weight` counts in a mean alone.

    `checker_versions` are those that count (all of them where none is named). With `newest_version` a newer
    checker version of a source supersedes the older ones it judged the trajectory with, whenever it ran;
    numbers in versions are compared as numbers.

    `steps` makes the value of the outcomes of single steps, one voice's at a time: their mean, sum or least,
    or that of the last step that has one. Without it only outcomes of the whole trajectory count.
    """

    name: str
    required: bool = True
    wait_hours: float = 0.0
    silence: float | None = None
    weight: float = 1.0
    tier: int = 0
    wait_by_task_type: Mapping[str, float] = {}
    checker_versions: tuple[str, ...] = ()
    newest_version: bool = False
    steps: Steps | None = None


class RewardPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a reward of the outcomes known as of a time. A change of meaning takes a new `version`.

    `combine`: the least value, the weighted mean, or the `first` signal in the order of `signals` that spoke
    (else the first whose silence has a value). Success is a reward of at least `success_at`. Where voices
    (sources, or versions of a checker) disagree about the success of one signal, `on_conflict` either holds
    the verdict back or believes the latest.
    """

    name: str = "reward"
    version: int = 1
    signals: tuple[Signal, ...] = (Signal(name="reward"),)
    combine: Combine = "min"
    success_at: float = 1.0
    on_conflict: Literal["hold", "latest"] = "hold"

    def __post_init__(self) -> None:
        names = [signal.name for signal in self.signals]
        if not names or len(set(names)) < len(names):
            raise FlywheelError(f"reward policy {self.name!r} needs signals, each named once; it has {names}")
        for signal in self.signals:
            waits = (signal.wait_hours, *signal.wait_by_task_type.values())
            numbers = (*waits, signal.weight, 0.0 if signal.silence is None else signal.silence)
            if not all(map(math.isfinite, numbers)) or min(waits) < 0 or signal.weight <= 0:
                raise FlywheelError(
                    f"signal {signal.name!r} of reward policy {self.name!r}: waits are 0 hours or more, weight is "
                    "above 0, and all are finite, as is silence"
                )
        if not math.isfinite(self.success_at):
            raise FlywheelError(f"reward policy {self.name!r}: success_at is a finite number")

    @property
    def hash(self) -> str:
        """SHA-256 of all that the policy says."""
        return hashlib.sha256(canonical_json(msgspec.to_builtins(self)).encode()).hexdigest()


def checked(*vetoes: str, checker: str = "checker", wait_hours: float = 48.0, success_at: float = 1.0) -> RewardPolicy:
    """A required verdict at once, and vetoes that may come later, such as a reopened ticket.

    A veto speaks with a low value (0.0: it was reopened) and the least value counts; where it is silent for
    `wait_hours`, the work is taken to have stood (1.0).
    """
    late = (Signal(name=veto, required=False, wait_hours=wait_hours, silence=1.0) for veto in vetoes)
    return RewardPolicy(name="checked", signals=(Signal(name=checker), *late), success_at=success_at)


def waiting(policy: RewardPolicy, hours: float) -> RewardPolicy:
    """The same policy with one wait, in hours, for each of its signals and all task types."""
    signals = (msgspec.structs.replace(s, wait_hours=hours, wait_by_task_type={}) for s in policy.signals)
    return msgspec.structs.replace(policy, signals=tuple(signals))


def load(path: Path) -> RewardPolicy:
    """A policy from a TOML or JSON file.

    Raises:
        FlywheelError: when the file cannot be read as one.
    """
    reader = msgspec.json if path.suffix == ".json" else msgspec.toml
    try:
        return reader.decode(path.read_bytes(), type=RewardPolicy)
    except (OSError, msgspec.MsgspecError) as error:
        known = ", ".join(RewardPolicy.__struct_fields__)
        raise FlywheelError(f"{path} is no reward policy: {error}. It may name: {known}") from error

"""Reward policies: which signals make a reward, how long to wait for them, and what their silence means."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Literal

import msgspec

from flywheel.schema import FlywheelError, canonical_json

Combine = Literal["min", "mean", "first"]


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signal of a policy.

    `wait_hours` counts from the arrival of the trajectory: until then a silent signal keeps the verdict
    pending. Afterwards `silence` is taken for its value; None assumes nothing, and then a `required` signal
    leaves the trajectory without a verdict while another is left out. `weight` counts in a mean alone.
    A signal that speaks after its wait is still heard, by every join as of a later time.
    """

    name: str
    required: bool = True
    wait_hours: float = 0.0
    silence: float | None = None
    weight: float = 1.0


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
            numbers = (signal.wait_hours, signal.weight, 0.0 if signal.silence is None else signal.silence)
            if not all(map(math.isfinite, numbers)) or signal.wait_hours < 0 or signal.weight <= 0:
                raise FlywheelError(
                    f"signal {signal.name!r} of reward policy {self.name!r}: wait_hours is 0 or more, weight is "
                    "above 0, and both are finite, as is silence"
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

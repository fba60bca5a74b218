"""Findings: what a version's defence looks for, from where on it acts, and what it decided."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal

import msgspec

from flywheel.corpus.defence.phrases import Novelty
from flywheel.schema import FlywheelError, canonical_json
from flywheel.settings import Home

FILE = "defence.toml"

Action = Literal["hold", "warn", "ignore"]


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which measure on (`at`), and `then` what. Below it, rows that were found are only noted."""

    at: float
    then: Action = "hold"


class DefencePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit for each kind of finding; `defence.toml` in the data folder overrides them by name.

    Measures: of a shift its effect size, 0 to 1 (`drift.Shift`; `new_rows_shift` looks at those that came in alone);
    of `duplicates` the rise of their share among candidates, of `cluster` the share that copies of one row have; of
    `easier_success` the rise of a success rate; of all others the share of training rows (those that came in, where
    there is a parent). A shift or a rise counts where chance would have it in fewer than `chance` of cases.

    `evidence` names the signals that may contradict a reward; where it is empty, every signal of the ledger that only
    ever said 0 or 1. `minimum_rows`: fewer rows are not compared.
    """

    reward_shift: Limit = Limit(at=0.15)
    length_shift: Limit = Limit(at=0.2)
    tool_shift: Limit = Limit(at=0.1)
    task_shift: Limit = Limit(at=0.2)
    origin_shift: Limit = Limit(at=0.2, then="warn")
    new_rows_shift: Limit = Limit(at=0.4, then="warn")
    duplicates: Limit = Limit(at=0.2, then="warn")
    cluster: Limit = Limit(at=0.03)
    overturned: Limit = Limit(at=0.05, then="warn")
    disagreement: Limit = Limit(at=0.002)
    printed_verdict: Limit = Limit(at=0.002)
    printed_answer: Limit = Limit(at=0.002)
    known_answer: Limit = Limit(at=0.002)
    tampering: Limit = Limit(at=0.002)
    effortless_success: Limit = Limit(at=0.005)
    easier_success: Limit = Limit(at=0.25)
    new_phrase: Limit = Limit(at=0.003)
    new_voice: Limit = Limit(at=0.003, then="warn")
    novelty: Novelty = Novelty()
    evidence: tuple[str, ...] = ()
    chance: float = 0.001
    minimum_rows: int = 50

    @property
    def hash(self) -> str:
        """SHA-256 of all that the policy says."""
        return hashlib.sha256(canonical_json(msgspec.to_builtins(self)).encode()).hexdigest()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found: its kind (a limit's name), what is done about it, and the figures that say so.

    `number` counts from 1; the offending rows stand under it in the table of rows. `advice` is what to look at next.
    """

    number: int
    kind: str
    level: Literal["hold", "warn", "note"]
    measure: float
    limit: float
    rows: int
    detail: str
    advice: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a version, and whether it may be trained on without a person's word.

    `parent` is the version that it was compared with: the newest before it that graduated, None where there was none
    and only what can be said of a version alone was looked at. `came_in` counts its training rows that the parent has
    not. `digest` is the version's, `policy` the hash of the defence policy.
    """

    corpus: str
    version: int
    digest: str
    parent: int | None
    policy: str
    rows: int
    came_in: int
    graduates: bool
    findings: tuple[Finding, ...]
    judged_at: datetime

    @property
    def mark(self) -> str:
        """A digest of what holds the version: a person's word is for these findings, and no others."""
        held = [msgspec.to_builtins(f) for f in self.findings if f.level == "hold"]
        facts = [self.digest, self.parent, held]
        return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def load_policy(home: Home) -> DefencePolicy:
    """The policy of a data folder.

    Raises:
        FlywheelError: when `defence.toml` holds an unknown name or a value of the wrong type.
    """
    path = home.root / FILE
    if not path.exists():
        return DefencePolicy()
    try:
        given: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
        default = msgspec.to_builtins(DefencePolicy())
        # A limit may be given in part: the action alone, or the threshold alone.
        merged = {k: {**default[k], **v} if isinstance(v, dict) and k in default else v for k, v in given.items()}
        return msgspec.convert(merged, DefencePolicy)
    except msgspec.MsgspecError as error:
        raise FlywheelError(f"{path}: {error}. Known names: {', '.join(DefencePolicy.__struct_fields__)}") from error

"""Policies to judge: their folders, their digests, and the actors made from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from flywheel import artifacts
from flywheel.evaluate.entrants import Entrant, Player, Role
from flywheel.schema import FlywheelError
from flywheel.settings import Home

MODEL = "model"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A trained policy: its id, its Hugging Face model folder, and the digest of that folder's content."""

    id: str
    model: Path
    digest: str

    def entrant(self, name: str | None = None, role: Role = "policy") -> Entrant:
        """The policy as an entrant; results call it `name`, or by its id."""
        return Entrant(name=name or self.id, role=role, policy_id=self.id, digest=self.digest)

    def player(self, name: str | None = None, role: Role = "policy", *, device: str = "cpu") -> Player:
        """The policy as a player of suites, sampled with transformers; this loads the model."""
        from flywheel.rollout.transformers_actor import TransformersActor

        entrant = self.entrant(name, role)
        actor = TransformersActor(self.model, name=entrant.name, version=self.digest, device=device)
        return Player(entrant=entrant, actor=actor)


def find(home: Home, text: str) -> Policy:
    """A policy by its id, or by the path of its folder or of any Hugging Face model folder.

    Raises:
        FlywheelError: when there is no such policy.
    """
    for folder in (home.policies / text, Path(text).resolve()):
        if folder.parent == home.policies and not (folder / artifacts.MANIFEST).is_file():
            # Its training has not ended.
            continue
        model = folder / MODEL if (folder / MODEL).is_dir() else folder
        if (model / "config.json").is_file():
            name = folder.parent.name if folder.name == MODEL else folder.name
            return Policy(id=name, model=model, digest=folder_digest(model))
    known = sorted(p.parent.name for p in home.policies.glob(f"*/{artifacts.MANIFEST}"))
    raise FlywheelError(f"there is no policy {text!r}; there are: {', '.join(known) or 'none yet (flywheel train)'}")


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files: equal digests, equal behaviour."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\x1f{content}\n".encode())
    return whole.hexdigest()

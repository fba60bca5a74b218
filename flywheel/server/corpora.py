"""Corpora over HTTP: those that came of a workspace, and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import Response

from flywheel.corpus import manifest as manifests
from flywheel.corpus import reference
from flywheel.release import ownership
from flywheel.schema import FlywheelError
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, answers
from flywheel.server.running import Running, running

router = APIRouter(tags=["read"])

CORPORA = "/api/v1/workspaces/{workspace}/corpora"
READ = Depends(allowed("read"))
Here = Annotated[Running, Depends(running)]


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """A corpus, its newest version, and how many it has."""

    name: str
    newest: int
    versions: int


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a corpus: what it was asked for, what it holds, and the digest that names its content."""

    name: str
    version: int
    branch: str
    digest: str
    as_of: datetime
    rows: int
    splits: dict[str, int]
    candidates: int
    reasons: dict[str, int]
    parents: tuple[int, ...]
    recipe: dict[str, Any]
    created_at: datetime


@router.get(CORPORA, dependencies=[READ], responses=answers(list[Corpus], "The corpora of the workspace."))
def corpora(workspace: str, here: Here) -> Response:
    """The corpora that came of this workspace alone."""
    found = [(name, manifests.versions(here.home, name)) for name in _corpora(here, workspace)]
    return _answer([Corpus(name=name, newest=known[-1], versions=len(known)) for name, known in found])


@router.get(CORPORA + "/{name}/versions", dependencies=[READ], responses=answers(list[Version], "Newest first."))
def versions(workspace: str, name: str, here: Here) -> Response:
    """The versions of a corpus."""
    _owned(here, workspace, name)
    return _answer([_version(here, name, number) for number in reversed(manifests.versions(here.home, name))])


@router.get(CORPORA + "/{name}/versions/{version}", dependencies=[READ], responses=answers(Version, "The version."))
def version(workspace: str, name: str, version: str, here: Here) -> Response:
    """A version of a corpus: `v3`, `latest`, the newest of a branch, or a tag."""
    _owned(here, workspace, name)
    try:
        return _answer(_version(here, name, reference.within(version)))
    except FlywheelError as error:
        raise HTTPException(404, str(error)) from error


def _corpora(here: Running, workspace: str) -> list[str]:
    return [name for name in manifests.names(here.home) if ownership.corpus(here.home, name) == {workspace}]


def _owned(here: Running, workspace: str, name: str) -> None:
    """Refuse a corpus that is not there, or another workspace's, in the same words."""
    if name not in _corpora(here, workspace):
        raise HTTPException(404, f"workspace {workspace!r} has no corpus of that name")


def _version(here: Running, name: str, ref: int | str | None) -> Version:
    return msgspec.convert(manifests.manifest(here.home, name, ref), Version, from_attributes=True)


def _answer(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)

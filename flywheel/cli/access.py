"""Who may do what on the command line: each command asks here for the data folder, with the role that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flywheel import settings
from flywheel.capture import access, workspaces
from flywheel.capture.access import ALL, Denied, Grant, Role
from flywheel.capture.audit import audit, user
from flywheel.settings import Home, checked_name

try:
    from typer._click.globals import get_current_context  # where typer brings click itself
except ImportError:  # pragma: no cover
    from click import get_current_context

if TYPE_CHECKING:
    from flywheel.corpus.catalog import Seen
    from flywheel.evaluate.report import Report
    from flywheel.release.history import Event
    from flywheel.release.ownership import Owners


class Visible(msgspec.Struct, frozen=True):
    """The workspaces in which the caller has a role; `everything` when nothing at all is kept from the caller."""

    workspaces: tuple[str, ...]
    everything: bool

    def sees(self, owners: Owners) -> bool:
        """Whether what came of these workspaces may be used."""
        return self.everything or owners <= set(self.workspaces)


def allowed(role: Role, workspace: str, target: str = "") -> Home:
    """The data folder, for one who has a role in a workspace: by FLYWHEEL_TOKEN, or because nobody guards it.

    Raises:
        Denied: for anybody else; of a workspace that is not there, only one who may see all is told so.
    """
    home, token = settings.home(), settings.token()
    try:
        grant = _grant(home, workspace, role, token)
    except Denied as denied:
        _note(home, workspace, denied.who, target, denied.reason)
        raise
    _note(home, workspace, grant.who, target)
    return home


def visible(role: Role) -> Visible:
    """In which workspaces the caller has a role.

    Raises:
        Denied: when there are some, and the caller has it in none.
    """
    home, token = settings.home(), settings.token()
    found = _visible(home, role, token)
    if not found.workspaces and not found.everything:
        denied = _denied(home, role, workspaces.names(home), "this", token)
        _note(home, ALL, denied.who, "", denied.reason)
        raise denied
    return found


def everywhere(role: Role, target: str = "") -> Home:
    """The data folder, for one who has a role in every workspace.

    Raises:
        Denied: for anybody else.
    """
    home = settings.home()
    return _owned(role, frozenset((*workspaces.names(home), ALL)), "the whole data folder", target)


def corpora(role: Role, *references: str) -> Home:
    """The data folder, for one who has a role in all workspaces that some corpora are of."""
    from flywheel.corpus import reference
    from flywheel.release import ownership

    home = settings.home()
    for text in references:
        name = reference.parse(text)[0]
        _owned(role, ownership.corpus(home, name), f"corpus {name!r}")
    return home


def growing(role: Role, corpus: str) -> Home:
    """As `corpora`, for a corpus that may have no version yet."""
    from flywheel.corpus.manifest import versions

    home = settings.home()
    return corpora(role, corpus) if versions(home, corpus) else home


def policies(role: Role, *names: str) -> Home:
    """The data folder, for one who has a role in all workspaces that some policies came of."""
    from flywheel.release import ownership

    home = settings.home()
    for name in names:
        if name != "scratch":
            _owned(role, ownership.policy(home, name), f"policy {name!r}")
    return home


def trees(role: Role, key: str) -> Home:
    """The data folder, for one who has a role in all workspaces that trees came of."""
    from flywheel.release import ownership

    return _owned(role, ownership.trees(settings.home(), key), f"trees {key!r}")


def files(role: Role, *paths: Path) -> Home:
    """The data folder, for one who has a role in all workspaces that files came of; those from elsewhere are free."""
    from flywheel.release import ownership

    home = settings.home()
    for path in paths:
        owners = ownership.file(home, path)
        if owners:
            _owned(role, owners, f"file {str(path)!r}")
    return home


def report(role: Role, id: str) -> Report:
    """A report, or the `latest`, for one who has a role in all workspaces that it tells of."""
    from flywheel.evaluate import report as reports
    from flywheel.release import ownership

    home = settings.home()
    found = None
    if id == "latest" or _visible(home, role, settings.token()).everything:
        found = reports.load(home, id)
    known = found.id if found else id
    _owned(role, ownership.report(home, known), f"report {id!r}")
    return found or reports.load(home, known)


def champion(role: Role) -> Home:
    """The data folder, for one who has a role in all workspaces that the champion and the one before came of."""
    from flywheel.release import ownership, registry

    home = settings.home()
    event = registry.champion(home)
    return _owned(role, ownership.event(home, event) if event else ownership.NOBODY, "the champion")


def releases(role: Role) -> list[Event]:
    """Every promotion, refusal and rollback of policies that came of workspaces in which one has a role."""
    from flywheel.release import history, ownership

    home, found = settings.home(), visible(role)
    return [event for event in history.read(home) if found.sees(ownership.event(home, event))]


def listed() -> list[str]:
    """The workspaces in which the caller has any role."""
    home, token = settings.home(), settings.token()
    return [name for name in workspaces.names(home) if any(_may(home, name, role, token) for role in access.ROLES)]


def seen(role: Role) -> Seen | None:
    """What of the data folder the caller may see, for views of it; None when that is everything."""
    from flywheel.release import ownership
    from flywheel.wheel.config import load

    home, found = settings.home(), visible(role)
    for workspace in found.workspaces:
        allowed(role, workspace)
    if found.everything:
        return None
    return ownership.seen(home, found.workspaces, cycle=load(home).workspace in found.workspaces)


def _grant(home: Home, workspace: str, role: Role, token: str | None) -> Grant:
    there = workspace == ALL or (home.workspaces / f"{checked_name(workspace, 'workspace')}.json").exists()
    if not access.guarded(home, workspace) and (there or _visible(home, role, token).everything):
        return access.anyone(user(), workspace)
    return access.check(home, workspace, role, token)


def _visible(home: Home, role: Role, token: str | None) -> Visible:
    names = workspaces.names(home)
    mine = tuple(name for name in names if _may(home, name, role, token))
    return Visible(mine, len(mine) == len(names) and (not access.guarded(home, ALL) or _may(home, ALL, role, token)))


def _may(home: Home, workspace: str, role: Role, token: str | None) -> bool:
    if not access.guarded(home, workspace):
        return True
    try:
        access.check(home, workspace, role, token)
    except Denied:
        return False
    return True


def _owned(role: Role, owners: Owners, what: str, target: str | None = None) -> Home:
    """The data folder, for one who has a role in all the owners of something; the audit log has it as the target."""
    home, token = settings.home(), settings.token()
    about = what if target is None else target
    if not _visible(home, role, token).sees(owners):
        denied = _denied(home, role, sorted(owners), what, token)
        for owner in sorted(owners):
            _note(home, owner, denied.who, about, denied.reason)
        raise denied
    for owner in sorted(owners & {*workspaces.names(home), ALL}):
        _note(home, owner, _grant(home, owner, role, token).who, about)
    return home


def _denied(home: Home, role: Role, owners: Sequence[str], what: str, token: str | None) -> Denied:
    """Why something is kept from the caller, in words that do not tell whose it is, nor whether it is there."""
    for owner in [name for name in owners if name in workspaces.names(home)]:
        try:
            _grant(home, owner, role, token)
        except Denied as denied:
            if denied.reason in ("role", "expired", "revoked"):
                return denied
    if token is None:
        return Denied("missing", f"{what} cannot be used without a token: set FLYWHEEL_TOKEN", "no token")
    try:
        who = access.check(home, ALL, role, token).who
    except Denied as denied:
        if denied.reason != "workspace":
            return denied
        who = denied.who
    return Denied("workspace", f"{what} cannot be used with this token, or is not there", who)


def _note(home: Home, workspace: str, who: str, target: str, reason: str = "") -> None:
    """Into the audit log; a data folder that is not there yet has none.

    What nobody guards can be used where the log cannot be written, as on a disk that is full.
    """
    if not home.root.is_dir():
        return
    context = get_current_context(silent=True)
    words = context.command_path.split()[1:] if context else []
    action = " ".join(("flywheel", *words))
    try:
        audit(home, workspace=workspace, action=action, who=who, target=target, allowed=not reason, reason=reason)
    except OSError:
        if reason or access.guarded(home, ALL) or (workspace != "?" and access.guarded(home, workspace)):
            raise

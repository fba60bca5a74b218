"""`flywheel github`: a webhook that tells what became of pull requests, and which trajectories worked on them."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table

github_app = typer.Typer(help="GitHub: pull requests that are merged, closed or reverted.", no_args_is_help=True)
app.add_typer(github_app, name="github")

Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace whose trajectories it is about.")]


@github_app.command("link")
def link(
    workspace: Workspace,
    new: Annotated[
        bool, typer.Option("--new", help="Make another secret: the old one does not count any more.")
    ] = False,
    json: Json = False,
) -> None:
    """Make the secret of a webhook, which is shown this once, and say how to set the webhook up.

    Example: flywheel github link --workspace support
    """
    from flywheel.capture.feedback import github

    secret = github.new_secret(access.allowed("admin", workspace), workspace, replace=new)
    path = f"/w/{workspace}/github"
    if json:
        emit({"workspace": workspace, "path": path, "secret": secret, "events": ["pull_request", "push"]})
        return
    table(
        "Settings > Webhooks > Add webhook, in the repository or organisation",
        ["field", "value"],
        [
            ("Payload URL", f"https://YOUR-SERVER{path}"),
            ("Content type", "application/json"),
            ("Secret", secret),
            ("Events", "Pull requests, Pushes"),
        ],
    )
    say("the secret is not shown again; link pull requests by a line in their text: Flywheel-Trajectory: ID")


@github_app.command("link-pr")
def link_pr(
    pull_request: Annotated[str, typer.Argument(help="As owner/repository#12.")],
    trajectories: Annotated[list[str], typer.Argument(help="Ids of the trajectories that worked on it.")],
    workspace: Workspace,
    json: Json = False,
) -> None:
    """Link trajectories to a pull request by hand, before it is merged or closed.

    Example: flywheel github link-pr octo/shop#12 5f2c0d6b --workspace support
    """
    from flywheel.capture import workspaces
    from flywheel.capture.feedback.changes import changes, pull_name

    home = access.allowed("capture", workspace)
    workspaces.require(home, workspace)
    name = pull_name(pull_request)
    with changes(home, workspace) as known:
        known.link(name, trajectories)
    if json:
        emit({"pull_request": name, "trajectories": trajectories})
    else:
        say(f"{name} is linked to {', '.join(trajectories)}")


@github_app.command("links")
def links(workspace: Workspace, json: Json = False) -> None:
    """List which trajectories are linked to which pull requests and commits.

    Example: flywheel github links --workspace support --json
    """
    from flywheel.capture import workspaces
    from flywheel.capture.feedback.changes import changes

    home = access.allowed("read", workspace)
    workspaces.require(home, workspace)
    with changes(home, workspace) as known:
        found = known.all()
    if json:
        emit([{"change": change, "trajectory": trajectory} for change, trajectory in found])
    else:
        table(f"pull requests of {workspace}", ["pull request or commit", "trajectory"], found)

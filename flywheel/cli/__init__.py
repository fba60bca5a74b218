"""The command line: `flywheel ...`, one module a stage."""

from __future__ import annotations

import errno
import inspect
import sys
from pathlib import Path

import typer

from flywheel.cli.output import fail
from flywheel.schema import FlywheelError
from flywheel.settings import home

app = typer.Typer(
    name="flywheel",
    help="An agent data flywheel: capture, outcomes, corpus, trees, training, evaluation, release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def unwrap(group: typer.Typer) -> None:
    """Make each paragraph of the commands' help one line: where it breaks is the terminal's to say."""
    for command in group.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)
    for below in group.registered_groups:
        if below.typer_instance:
            unwrap(below.typer_instance)


def main() -> None:
    """Run the command line: 0 when done, 1 with a message when it could not be, 2 for wrong usage."""
    try:
        app()
    except FlywheelError as error:
        fail(str(error))
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"the disk is full ({error}): free some space and run this again; what was written before stands")
        elif _of_the_folder(error):
            fail(f"the data folder {home().root} cannot be used ({error}): FLYWHEEL_HOME names another")
        else:
            raise
        sys.exit(1)


def _of_the_folder(error: OSError) -> bool:
    """Whether an error says that the data folder is none, or not this user's."""
    root, at = home().root, Path(str(error.filename)).absolute()
    if error.filename is None or not (at.is_relative_to(root) or root.is_relative_to(at)):
        return False
    # Where there is the folder, other errors are mistakes of ours.
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) or not root.is_dir()


# Commands register themselves on `app`, so it must stand before they are imported.
from flywheel.cli import capture as capture
from flywheel.cli import compare as compare
from flywheel.cli import corpus as corpus
from flywheel.cli import defence as defence
from flywheel.cli import environments as environments
from flywheel.cli import evaluate as evaluate
from flywheel.cli import export as export
from flywheel.cli import forget as forget
from flywheel.cli import github as github
from flywheel.cli import outcomes as outcomes
from flywheel.cli import query as query
from flywheel.cli import redaction as redaction
from flywheel.cli import release as release
from flywheel.cli import rollout as rollout
from flywheel.cli import run as run
from flywheel.cli import search as search
from flywheel.cli import serve as serve
from flywheel.cli import ship as ship
from flywheel.cli import stream as stream
from flywheel.cli import token as token
from flywheel.cli import train as train
from flywheel.cli import versions as versions
from flywheel.cli import wheel as wheel

unwrap(app)

"""The command line: `flywheel ...`, one module a stage."""

from __future__ import annotations

import sys

import typer

from flywheel.cli.output import fail
from flywheel.schema import FlywheelError

app = typer.Typer(
    name="flywheel",
    help="An agent data flywheel: capture, outcomes, corpus, trees, training, evaluation, release.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line: 0 when done, 1 with a message when it could not be, 2 for wrong usage."""
    try:
        app()
    except FlywheelError as error:
        fail(str(error))
        sys.exit(1)


from flywheel.cli import capture as capture  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import corpus as corpus  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import environments as environments  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import evaluate as evaluate  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import outcomes as outcomes  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import query as query  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import release as release  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import rollout as rollout  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import stream as stream  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import train as train  # noqa: E402 - commands register themselves on `app`
from flywheel.cli import wheel as wheel  # noqa: E402 - commands register themselves on `app`

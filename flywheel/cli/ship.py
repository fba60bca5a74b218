"""`flywheel ship`: what recorders left in a spool goes to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel import settings
from flywheel.cli import app
from flywheel.cli.output import Json, emit, say, table
from flywheel.schema import FlywheelError


@app.command()
def ship(
    spool: Annotated[Path, typer.Option(help="The folder that recorders wrote to (Recorder.to(..., spool=FOLDER)).")],
    to: Annotated[str, typer.Option(help="The server's address, such as https://flywheel.example.org.")],
    seconds: Annotated[float, typer.Option("--for", min=0, help="How long to try a server that is away.")] = 60.0,
    json: Json = False,
) -> None:
    """Send what recorders that are no more left in a spool; it leaves the spool once the server has it.

    The token is read from FLYWHEEL_TOKEN. What was sent before is known to the server by its id.

    Example: flywheel ship --spool /var/spool/flywheel --to https://flywheel.example.org
    """
    from flywheel.capture.recorders.sending import Unreachable
    from flywheel.capture.recorders.shipping import ship_for

    try:
        shipped = ship_for(spool, to, settings.token(), seconds, say)
    except Unreachable as error:
        raise FlywheelError(f"{error}; all is kept in {spool}: run this again when the server is there") from error
    if json:
        emit(shipped)
    else:
        columns = ["trajectories", "outcomes", "quarantined", "journals_removed"]
        rows = [(name, *(getattr(of, column) for column in columns)) for name, of in shipped.items()]
        table(f"shipped to {to}", ["workspace", *(column.replace("_", " ") for column in columns)], rows)

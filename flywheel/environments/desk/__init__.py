"""The support desk: orders and customers behind a mock API, and policies that decide what a user may have."""

from flywheel.environments.desk.api import HANDLERS, READING, TOOLS
from flywheel.environments.desk.scenarios import CUSTOMERS, FRAMES, ORDERS, SCENARIOS, base, draw
from flywheel.environments.templates import TemplateEnvironment

DESK = TemplateEnvironment(
    name="desk",
    checker_version="1",
    system="You run the desk.",
    tools=TOOLS,
    handlers=HANDLERS,
    reading=READING,
    scenarios=SCENARIOS,
    frames=FRAMES,
    draw=draw,
    base=base,
    entities=(*ORDERS, *CUSTOMERS),
    late_signal="ticket_reopened",
)

__all__ = ["DESK"]

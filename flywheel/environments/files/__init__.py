"""The virtual file system: a folder for each service, and rules that only a look can tell apply."""

from flywheel.environments.files.disk import HANDLERS, READING, TOOLS
from flywheel.environments.files.scenarios import FOLDERS, FRAMES, NUMBERS, SCENARIOS, base, draw
from flywheel.environments.templates import TemplateEnvironment

FILES = TemplateEnvironment(
    name="files",
    checker_version="1",
    system="You keep the files.",
    tools=TOOLS,
    handlers=HANDLERS,
    reading=READING,
    scenarios=SCENARIOS,
    frames=FRAMES,
    draw=draw,
    base=base,
    entities=(*FOLDERS, *NUMBERS),
    late_signal="output_reverted",
)

__all__ = ["FILES"]

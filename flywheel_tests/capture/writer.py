"""A process that records until it is killed, and says on standard output what has been acknowledged."""

import sys
from pathlib import Path

from flywheel.capture import Recorder
from flywheel.settings import Home


def main(root: str, name: str) -> None:
    recorder = Recorder(Home(Path(root)), "desk", agent=name)
    for number in range(1_000_000):
        with recorder.trajectory(task_id=str(number), id=f"{name}-{number}") as t:
            for index in range(3):
                t.step(role="user", content=f"step {index}")
                print(f"{t.id} {index}", flush=True)
            t.outcome("done", 1.0)
            print(f"{t.id} outcome", flush=True)
        print(f"{t.id} end", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""An agent that records through a spool until it is killed, and says on standard output what was acknowledged."""

import sys

from flywheel.capture import Recorder


def main(url: str, spool: str, name: str) -> None:
    recorder = Recorder.to(url, "desk", spool=spool, agent=name)
    for number in range(1_000_000):
        with recorder.trajectory(task_id=str(number), id=f"{name}-{number}") as t:
            t.step(role="user", content=f"step of {t.id}")
        recorder.outcome(t.id, "fine", 1.0)
        print(t.id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

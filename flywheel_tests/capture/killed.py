"""A writer under load, to be killed: calls, whole trajectories and outcomes from several threads, each told when it is
acknowledged."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.settings import Home
from flywheel_tests.capture import events
from flywheel_tests.capture.journals.test_threads import bot, call, user


def forks(asked: Connection) -> None:
    """For each run that is asked for, fork a process that writes; its number is answered. All is imported by then."""
    while order := asked.recv():
        root, run = order
        child = os.fork()
        if not child:
            write(root, run)
        asked.send(child)


def told(root: Path, run: int) -> Path:
    """Where a writer tells what was acknowledged to it, a line each."""
    return root.parent / f"told-{run}"


def write(root: Path, run: int) -> None:
    """Write until killed; each record is told once it was acknowledged."""
    home = Home(root)
    file = os.open(told(root, run), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = Writer(home, "desk")
    threads = Threads(home, "desk", writer)

    def acknowledged(*ids: str) -> None:
        os.write(file, "".join(f"{id}\n" for id in ids).encode())

    def calls(number: int) -> None:
        history = [user(f"run {run} thread {number}")]
        for turn in range(10**6):
            id = f"{run}-{number}-{turn}"
            answer = bot(f"answer {turn}")
            threads.put(call(id, history, answer, thread=f"{run}-{number}" if number else "")).result()
            acknowledged(f"call {id}")
            history = [*history, answer, user(f"question {turn}")] if turn % 7 else [user(f"anew {id}")]

    def wholes(number: int) -> None:
        for turn in range(10**6):
            id = f"{run}-{number}-{turn}"
            outcome = events.told(id)
            writer.put([events.whole(id, "Hello " * 100), outcome]).result()
            acknowledged(f"whole {id}", f"told {outcome.outcome.id}")

    for target, number in ((calls, 0), (calls, 1), (calls, 2), (wholes, 3)):
        threading.Thread(target=target, args=(number,)).start()
    wholes(4)

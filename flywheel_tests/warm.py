"""Processes that begin with everything imported, so that a test may start, and kill, a hundred of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

# What such processes use, with what the package imports late.
IMPORTED = [
    "duckdb",
    "lance",
    "matplotlib.pyplot",
    "polars",
    "torch",
    "transformers.models.qwen3.modeling_qwen3",
    "trl.trainer.dpo_trainer",
    "trl.trainer.sft_trainer",
    "flywheel_tests.corpus.test_kill",
    "flywheel_tests.wheel.forgotten",
    "flywheel_tests.wheel.turn",
]


def started(function: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    """A process that calls a function with a connection and the arguments; and where what it sends is heard.

    It is forked, in milliseconds, from one that has imported everything and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(told, *args))
    process.start()
    told.close()
    return process, heard


def killed(process: BaseProcess, heard: Connection) -> list[Any]:
    """End a process with SIGKILL; what it had sent and nobody has heard."""
    process.kill()
    process.join()
    found = []
    with suppress(EOFError), heard:
        while True:
            found.append(heard.recv())
    return found

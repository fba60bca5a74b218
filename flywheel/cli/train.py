"""`flywheel train`: policies from corpus versions and from preference pairs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from flywheel import artifacts, settings
from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, progress, say, table

if TYPE_CHECKING:
    from flywheel.train.config import Run

commands = typer.Typer(no_args_is_help=True, help="Train policies, each in a process of its own that can be killed.")
app.add_typer(commands, name="train")

Seed = Annotated[int, typer.Option(help="Seed of weights and order: the same seed gives the same weights.")]
Lora = Annotated[int, typer.Option("--lora", min=0, help="Rank of LoRA adapters; 0 trains all weights.")]
Context = Annotated[int, typer.Option(min=8, help="Tokens of a sequence, at most.")]


@commands.command()
def sft(
    data: Annotated[str, typer.Argument(help="A corpus version (NAME@vN) or a Parquet file of trajectories.")],
    base: Annotated[str, typer.Option(help="'scratch', a policy's id, a folder or a Hugging Face name.")] = "scratch",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 320,
    batch: Annotated[int, typer.Option(min=1, help="Sequences a step.")] = 16,
    rate: Annotated[float, typer.Option(help="Learning rate; about 2e-5 for large models.")] = 2e-3,
    context: Context = 1024,
    lora: Lora = 0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Supervised fine-tuning: imitate what the assistants of a corpus version wrote, and nothing else of it.

    The same request finds the finished policy. Killed and run again, it goes on from its last checkpoint.

    Example: flywheel train sft corpus@v1 --steps 320
    """
    from flywheel.train.config import SFTRun

    if data.endswith(".parquet"):
        access.files("admin", Path(data))
    else:
        access.corpora("admin", data)
    access.policies("admin", base)
    _train(
        SFTRun(
            data=_local(data),
            base=base,
            steps=steps,
            batch=batch,
            learning_rate=rate,
            context=context,
            lora_rank=lora,
            seed=seed,
        ),
        json,
    )


@commands.command()
def dpo(
    pairs: Annotated[list[str], typer.Argument(help="Pairs to pool: keys that `flywheel pairs` told, or folders.")],
    base: Annotated[str, typer.Option(help="The policy whose rollouts made the pairs: id, folder or name.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the pairs.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a step.")] = 16,
    rate: Annotated[float, typer.Option(help="Learning rate; about 1e-6 for large models.")] = 2e-4,
    beta: Annotated[float, typer.Option(min=0, help="Strength of the pull to the base policy.")] = 0.1,
    context: Context = 1024,
    lora: Lora = 0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Direct preference optimisation: prefer the chosen step of each pair over the rejected one.

    Example: flywheel train dpo PAIRS --base sft-3f57ce05eaa9426f
    """
    from flywheel.train.config import DPORun

    home = settings.home()
    folders = tuple(str(home.pairs / key) if (home.pairs / key).is_dir() else _local(key) for key in pairs)
    access.files("admin", *map(Path, folders))
    access.policies("admin", base)
    _train(
        DPORun(
            pairs=folders,
            base=base,
            epochs=epochs,
            batch=batch,
            learning_rate=rate,
            beta=beta,
            context=context,
            lora_rank=lora,
            seed=seed,
        ),
        json,
    )


def _local(name: str) -> str:
    """A path in full, since the training process is told nothing of where it was asked for."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _train(run: Run, json: bool) -> None:
    """Train in a process of its own and show how it goes."""
    home = settings.home()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "run.json"
        artifacts.write_json(config, run)
        command = [sys.executable, "-m", "flywheel.train", str(config), "--home", str(home.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            _show(process)
            told = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise typer.Exit(1)
    policy: dict[str, Any] = msgspec.json.decode(told)
    if json:
        emit(policy)
        return
    lineage = artifacts.read_json(Path(policy["folder"]) / "lineage.json")
    rows = {**policy, "examples": lineage["examples"]}
    table(f"Policy {policy['id']}", ("what", "value"), rows.items())
    say(f"next: flywheel evaluate {policy['id']}")


def _show(process: subprocess.Popen[str]) -> None:
    """Draw the words of a training process; what is no word of progress is passed on."""
    loss = ""
    with progress() as display:
        bar = display.add_task("training", total=None)
        for line in process.stderr or ():
            try:
                word = msgspec.json.decode(line)
            except msgspec.DecodeError:
                say(line.rstrip())
                continue
            loss = f" loss {word['loss']:.3f}" if "loss" in word else loss
            display.update(bar, total=word["steps"], completed=word["step"], description=f"training{loss}")

"""A training run in a process of its own: `python -m flywheel.train CONFIG.json [--home FOLDER]`.

Progress goes to standard error, a JSON object a line; the finished policy to standard output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from flywheel import settings
from flywheel.schema import FlywheelError
from flywheel.train.config import load
from flywheel.train.run import run


def main() -> int:
    """Train what the config file describes; 0 when the policy stands."""
    parser = argparse.ArgumentParser(prog="python -m flywheel.train", description=__doc__)
    parser.add_argument("config", type=Path, help="a JSON file that holds an SFTRun or a DPORun")
    parser.add_argument("--home", type=Path, help="the data folder (default: FLYWHEEL_HOME, or ./data)")
    given = parser.parse_args()
    home = settings.Home(given.home.expanduser().resolve()) if given.home else settings.home()
    try:
        policy = run(load(given.config), home, _tell)
    except FlywheelError as error:
        sys.stderr.write(f"flywheel: {error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(policy, enc_hook=str).decode() + "\n")
    return 0


def _tell(word: dict[str, Any]) -> None:
    sys.stderr.write(msgspec.json.encode(word).decode() + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

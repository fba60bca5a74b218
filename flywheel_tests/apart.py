"""Tests that run in a process of their own, since what they use may end it."""

from __future__ import annotations

import re
import subprocess
import sys

from flywheel_tests.conftest import ROOT

# When a worker has died, Ray 2.60 now and then ends the process that drives it, on a check of its own: nothing then
# says how many tests passed or failed.
ATTEMPTS = 5


def passes(path: str) -> None:
    """Run the tests of a file, once more where their process ends without a word of how many passed or failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    for _ in range(ATTEMPTS):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if re.search(r"\d+ (passed|failed|error)", done.stdout):
            break
    assert done.returncode == 0, done.stdout + done.stderr

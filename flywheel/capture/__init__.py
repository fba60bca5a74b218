"""Capture: what agents do, durable when the call returns."""

from flywheel.capture.recorder import Recorder
from flywheel.capture.recording import current

__all__ = ["Recorder", "current"]

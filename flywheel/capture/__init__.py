"""Capture: what agents do, durable when the call returns."""

from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.recorders.recording import current

__all__ = ["Recorder", "current"]

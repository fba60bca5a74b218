"""Capture: what agents do, durable when the call returns."""

from flywheel.capture.recorder import Recorder

__all__ = ["Recorder"]

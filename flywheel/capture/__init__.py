"""Capture: what agents do, durable when the call returns."""

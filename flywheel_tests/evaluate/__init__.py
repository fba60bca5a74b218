"""Tests of flywheel.evaluate."""

"""Tests of flywheel.release."""

"""Tests of recorders."""

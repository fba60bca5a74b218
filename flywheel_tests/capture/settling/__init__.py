"""Tests of settling."""

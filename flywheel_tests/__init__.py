"""Tests, in the order of the package; they read like documentation."""

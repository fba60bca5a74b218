"""Evaluate: held-out success with intervals, paired tests, slices and a report."""

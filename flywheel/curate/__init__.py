"""Curate: which trajectories are fit to learn from, and why the others are not."""

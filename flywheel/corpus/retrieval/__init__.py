"""Retrieval: trajectories like a task, by their words and by vectors."""

"""Erasing: what was captured of a person or an episode is found, and goes for good."""

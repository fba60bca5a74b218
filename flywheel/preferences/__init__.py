"""Preferences: step values backed up through trees, and the pairs that pass the gates."""

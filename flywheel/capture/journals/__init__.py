"""Journals: what was captured live, on disk when it is acknowledged, until it is settled."""

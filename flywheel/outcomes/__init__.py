"""Outcomes: an append-only ledger, reward policies, and the as-of join."""

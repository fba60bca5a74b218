"""Tests of the ledger, reward policies and the as-of join."""

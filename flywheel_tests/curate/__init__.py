"""Tests of fingerprints, duplicates, filters, splits, decisions and leakage."""

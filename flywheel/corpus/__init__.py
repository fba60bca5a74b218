"""Corpus: immutable, explained, reproducible versions of training data."""

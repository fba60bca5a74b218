"""Retrieval: words, vectors, ranks, excerpts."""

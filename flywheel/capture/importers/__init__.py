"""Importers: one module a format, each with a detect and a read."""

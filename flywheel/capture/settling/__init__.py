"""Settling: what the journals hold becomes rows of the stored tables, each once."""

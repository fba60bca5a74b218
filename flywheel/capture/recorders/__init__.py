"""Recorders: what an agent in Python does, here or elsewhere."""

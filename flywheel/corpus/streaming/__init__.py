"""Streaming: what a version holds, made ready once and given to torch in any order, from any point on."""

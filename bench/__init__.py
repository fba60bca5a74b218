"""Benchmarks: each module is a command, `python -m bench.NAME`; `python -m bench` runs them and writes the page."""

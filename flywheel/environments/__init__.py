"""Environments: tasks to act on, with states that fork and checkers that prove themselves."""

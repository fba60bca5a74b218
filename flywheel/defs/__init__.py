"""Dagster definitions: one thin file a stage."""

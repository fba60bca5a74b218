"""Tests of the wheel, with and without Dagster."""

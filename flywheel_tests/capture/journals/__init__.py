"""Tests of journals."""

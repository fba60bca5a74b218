"""Tests of capture: recorder, journals, settling, importers, redaction."""

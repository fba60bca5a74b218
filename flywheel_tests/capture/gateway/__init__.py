"""Tests of the gateway's pure part."""

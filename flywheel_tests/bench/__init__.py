"""Tests of the benchmarks: at tiny sizes they run, and what they count adds up."""

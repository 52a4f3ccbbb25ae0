"""Benchmarks: each measures itself and, in the same run, the limit that it is held against."""

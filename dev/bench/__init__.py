"""Benchmarks against named peers: `nox -s bench`."""

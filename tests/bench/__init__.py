"""Benchmarks of the real gateway beside a bare echo: ``make bench``, or ``python -m bench`` with tests/ on the path."""

"""Segmind Gateway: keys, limits, budgets and an exact ledger in front of Segmind's API."""

__version__ = "0.1.0"

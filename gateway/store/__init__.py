"""Adapters to Redis, and the embedded server that stands in where none is configured."""

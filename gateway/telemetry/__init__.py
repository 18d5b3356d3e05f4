"""Logs, metrics and the ops port: sinks of core events and the places where they are read."""

"""Argument parsing and terminal output; the only reader of the process's environment."""

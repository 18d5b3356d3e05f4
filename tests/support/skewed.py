"""``python skewed.py SECONDS ARGUMENTS...``: the gateway's command line, on a machine whose clock is so far off."""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Set the clock that all of the gateway reads, before any of it is imported; then run it."""
    seconds = float(sys.argv.pop(1))
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)

    from gateway.__main__ import main as gateway  # noqa: PLC0415 it must find the clock as it is now

    gateway()


if __name__ == "__main__":
    main()

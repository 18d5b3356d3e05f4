"""A fake Segmind for trials and tests: one app that plays the inference, storage and history hosts.

It imports nothing of the gateway, so that a mistake there can't hide itself here. ``create_app`` builds the ASGI app,
``server.serve`` and ``server.running`` run it, and ``/_sandbox/`` (or the `Sandbox` object itself) injects faults and
shows what was accepted.
"""

from gateway.sandbox.app import create_app
from gateway.sandbox.faults import Fault
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.state import Sandbox

__all__ = ["Fault", "Sandbox", "SandboxSettings", "create_app"]

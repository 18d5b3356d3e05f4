"""Segmind over HTTP: the adapter of `gateway.core.ports.Upstream`."""

"""Sandbox platforms: peers that behave like the real ones, on loopback, for demo and tests."""

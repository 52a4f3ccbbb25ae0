"""Meters: bytes, frames, profiles and one scheduler a bus. A leaf: it knows only server.core."""

"""Protocols without I/O: bytes in, answers out, and whether an answer belongs to its request."""

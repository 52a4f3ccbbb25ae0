"""Bounded loops: each step looks at tables, does a batch, and waits to be woken."""

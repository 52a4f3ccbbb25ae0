"""MallWatt's backend: see docs/architecture.md for its rooms and floors."""

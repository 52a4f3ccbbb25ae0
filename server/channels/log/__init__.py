"""A channel that writes each message to the log (README.md)."""

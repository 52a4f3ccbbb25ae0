"""The tenants' door: HTTP for the mini-program."""

"""Numbered migrations; written by makemigrations, SQL by hand."""

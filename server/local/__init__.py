"""A mall on one machine: its own PostgreSQL, Redis and supervised processes."""

"""Simulated meters and gateways: other ends for our links, reached over sockets only."""

"""Prices: periods of the day, blocks, dated versions, and what energy costs by them."""

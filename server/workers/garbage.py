"""Python's search for cycles of garbage, for processes that settle in batches."""

import gc

# A batch makes tens of thousands of small values and no cycles; each search looks through them.
ALLOCATIONS = 50_000
YOUNG, OLD = 20, 20


def search_less() -> None:
    """Leave what is imported out of every search, and search after a batch, not within it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, YOUNG, OLD)

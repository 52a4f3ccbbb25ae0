"""Floor 2: one function = one use case. Gather, decide, apply; no network in a transaction."""

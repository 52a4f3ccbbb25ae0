"""Floor 0: pure rules. No await, clock, I/O, logging or float."""

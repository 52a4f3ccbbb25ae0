"""Supply: what a meter's control state should be, and why."""

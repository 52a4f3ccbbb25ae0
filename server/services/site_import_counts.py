"""What an import counts: rows that were created, updated, left unchanged."""

from collections import Counter

from server.models.database import Row


class Counts:
    """Counts upserts by what their RETURNING says."""

    def __init__(self) -> None:
        self.created: Counter[str] = Counter()
        self.updated: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()

    def note(self, table: str, found: Row | None) -> None:
        """No row: unchanged; else whether it was created."""
        which = self.unchanged
        if found is not None:
            which = self.created if found["created"] else self.updated
        which[table] += 1

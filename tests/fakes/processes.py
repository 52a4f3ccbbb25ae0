"""Watching processes from outside."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path


async def until(condition: Callable[[], object], within_s: float = 10) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

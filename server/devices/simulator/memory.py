"""What a meter keeps when its process ends, and the folder where it lies."""

import fcntl
from pathlib import Path

import msgspec

from server.core.errors import InvalidInputError

PERIODS = ("sharp", "peak", "flat", "valley")


class Memory(msgspec.Struct, forbid_unknown_fields=True):
    """Counters (exact, as the customer used it: before the transformer), relay, identity."""

    total_watt_us: int
    period_watt_us: list[int]  # in the order of PERIODS
    identity: int
    commanded_connected: bool = True
    forced: bool = False
    permitted: bool = False
    protected: bool = False


class StateFolder:
    """One small file a meter, replaced as a whole: a kill leaves the old or the new one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = (folder / ".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise InvalidInputError(f"another simulator keeps its meters in {folder}") from error

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.close()

    def load(self, code: str) -> Memory | None:
        """What this meter kept; None before its first start; raises InvalidInputError."""
        raw = self._read(code)
        if raw is None:
            return None
        try:
            memory = msgspec.json.decode(raw, type=Memory)
        except msgspec.MsgspecError as error:
            raise InvalidInputError(f"{code}.json is no memory of a meter: {error}") from error
        if len(memory.period_watt_us) != len(PERIODS):
            raise InvalidInputError(f"{code}.json needs {len(PERIODS)} period counters")
        return memory

    def save(self, code: str, memory: Memory) -> None:
        """Keeps it against a kill of this process (not against a power cut: no fsync)."""
        self._write(code, msgspec.json.encode(memory))

    def _read(self, code: str) -> bytes | None:
        try:
            return (self._folder / f"{code}.json").read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, code: str, data: bytes) -> None:
        path = self._folder / f"{code}.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(path)

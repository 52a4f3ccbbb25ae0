"""Which requests read a meter: each pays for a turnaround, so neighbours go together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from server.devices.profiles.profile import DataPlace, Part, Place, ReadStep, RegisterPlace
from server.devices.profiles.values import Codec
from server.devices.protocols.modbus import BIT_FUNCTIONS, MOST_REGISTERS
from server.devices.protocols.requests import DataRead, RegisterRead


@dataclass(frozen=True, slots=True)
class Wanted:
    """One value to read: its name, where it is, its size in bytes (in bits for functions 1, 2)."""

    name: str
    place: Place
    size: int

    @classmethod
    def of(cls, name: str, place: Place, codec: Codec, bits: int = 1) -> "Wanted":
        """The value that this codec reads there."""
        is_bits = isinstance(place, RegisterPlace) and place.function in BIT_FUNCTIONS
        return cls(name, place, bits if is_bits else codec.size)


@dataclass(frozen=True, slots=True)
class Blocks:
    """How far reads may be merged: unread registers between two values, registers a request."""

    max_gap: int = 0
    max_registers: int = MOST_REGISTERS


def plan_steps(wanted: Sequence[Wanted], blocks: Blocks) -> tuple[ReadStep, ...]:
    """The fewest requests for these values within the limits, in the order first asked for."""
    order = {value.name: at for at, value in enumerate(wanted)}
    registers = [value for value in wanted if _is_register(value)]
    others = [value for value in wanted if not _is_register(value)]
    steps = [*_register_steps(registers, blocks), *_other_steps(others)]
    return tuple(sorted(steps, key=lambda step: min(order[part.name] for part in step.parts)))


def single_steps(wanted: Sequence[Wanted]) -> tuple[ReadStep, ...]:
    """Each value in a request of its own: for meters that refuse a block."""
    return tuple(step for value in wanted for step in plan_steps([value], Blocks()))


def _is_register(value: Wanted) -> bool:
    return isinstance(value.place, RegisterPlace) and value.place.function not in BIT_FUNCTIONS


def _register_steps(values: Iterable[Wanted], blocks: Blocks) -> list[ReadStep]:
    def where(value: Wanted) -> tuple[int, int]:
        place = value.place
        assert isinstance(place, RegisterPlace)  # noqa: S101 - the caller filtered; tells mypy
        return place.function, place.address

    steps: list[ReadStep] = []
    for function, group in groupby(sorted(values, key=where), key=lambda value: where(value)[0]):
        run: list[Wanted] = []
        for value in group:
            address, end = where(value)[1], where(value)[1] + value.size // 2
            if run:
                run_start, run_end = where(run[0])[1], where(run[-1])[1] + run[-1].size // 2
                apart = address - run_end > blocks.max_gap
                if apart or end - run_start > blocks.max_registers:
                    steps.append(_merged(function, where(run[0])[1], run))
                    run = []
            run.append(value)
        steps.append(_merged(function, where(run[0])[1], run))
    return steps


def _merged(function: int, start: int, run: Sequence[Wanted]) -> ReadStep:
    parts = []
    for value in run:
        assert isinstance(value.place, RegisterPlace)  # noqa: S101 - as above
        parts.append(Part(value.name, (value.place.address - start) * 2, value.size))
    end = max(part.start + part.size for part in parts)
    return ReadStep(RegisterRead(function, start, end // 2), tuple(parts))


def _other_steps(values: Sequence[Wanted]) -> list[ReadStep]:
    """Bits are asked for one by one; values of one data identifier share an answer."""
    steps: list[ReadStep] = []
    shared: dict[bytes, list[tuple[Wanted, DataPlace]]] = {}
    for value in values:
        if isinstance(value.place, DataPlace):
            shared.setdefault(value.place.di, []).append((value, value.place))
        else:
            request = RegisterRead(value.place.function, value.place.address, value.size)
            steps.append(ReadStep(request, (Part(value.name, 0, 0),)))
    for di, members in shared.items():
        parts = tuple(Part(value.name, place.offset, value.size) for value, place in members)
        size = max(part.start + part.size for part in parts)
        exact = not any(place.block for _, place in members)
        steps.append(ReadStep(DataRead(di, size, exact), parts))
    return steps

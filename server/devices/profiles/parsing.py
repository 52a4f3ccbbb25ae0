"""A checked document as a Profile; what no schema can say is checked here."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from server.devices.profiles.decoding import rollover_wh
from server.devices.profiles.document import SIZE_LIMIT, Document
from server.devices.profiles.profile import (
    ENERGY_TOTAL,
    IDENTITY,
    STATE,
    WH_PER_UNIT,
    DataPlace,
    Identity,
    Limits,
    Place,
    Point,
    Profile,
    RegisterPlace,
    StateRead,
    Supply,
)
from server.devices.profiles.steps import Blocks, Wanted, plan_steps, single_steps
from server.devices.profiles.values import Codec, Kind, Order
from server.devices.protocols.dlt645 import LONGEST_DATA, PERMIT_CLOSING, TRIP
from server.devices.protocols.modbus import BIT_FUNCTIONS, COIL_ON
from server.devices.protocols.requests import RegisterWrite, RelayCommand, WriteRequest

KINDS: Mapping[str, tuple[Kind, int]] = {
    "u16": (Kind.UNSIGNED, 2),
    "i16": (Kind.SIGNED, 2),
    "u32": (Kind.UNSIGNED, 4),
    "i32": (Kind.SIGNED, 4),
    "u64": (Kind.UNSIGNED, 8),
    "i64": (Kind.SIGNED, 8),
    "f32": (Kind.FLOAT, 4),
    "bcd": (Kind.BCD, 4),
}


def parse_profile(text: str, document: Document) -> Profile | None:
    """The profile in this text; None when `document` has faults."""
    if len(text.encode()) > SIZE_LIMIT:
        document.fault(f"larger than {SIZE_LIMIT} bytes")
        return None
    if not document.read(text):
        return None
    profile = _Builder(document).build()
    return None if document.faults else profile


class _Builder:
    """Builds the profile of a document whose form is right, noting every fault in its meaning."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = document.data
        self._modbus = self._data["protocol"] == "modbus"

    def build(self) -> Profile:
        points = {name: self._point(name, spec) for name, spec in self._data["points"].items()}
        energy = points[ENERGY_TOTAL]
        if energy.unit not in WH_PER_UNIT:
            units = ", ".join(WH_PER_UNIT)
            self._document.fault(f"the unit is one of {units}", "points", ENERGY_TOTAL, "unit")
        self._check_overlaps(points)
        supply, identity = self._supply(), self._identity()
        wanted = [Wanted.of(name, point.place, point.codec) for name, point in points.items()]
        wanted.sort(key=lambda value: value.name != ENERGY_TOTAL)
        if supply is not None:
            state = supply.state
            bits = (state.mask).bit_length()
            wanted.insert(1, Wanted.of(STATE, state.place, state.codec, bits))
        if identity is not None:
            wanted.insert(0, Wanted.of(IDENTITY, identity.place, identity.codec))
        blocks = Blocks(**self._data.get("blocks", {}))
        return Profile(
            name=f"{self._data['maker']}/{self._data['model']}",
            protocol=self._data["protocol"],
            points=MappingProxyType(points),
            supply=supply,
            identity=identity,
            limits=self._limits(energy),
            source=self._data.get("source", ""),
            steps=plan_steps(wanted, blocks),
            single_steps=single_steps(wanted),
            notes=self._data.get("notes", ""),
        )

    def _point(self, name: str, spec: Mapping[str, Any]) -> Point:
        place, codec = self._located(spec, "bcd", "points", name)
        scale = Decimal(str(spec.get("scale", "1")))
        if scale == 0 or not scale.is_finite() or (name == ENERGY_TOTAL and scale < 0):
            self._document.fault("the scale must be above 0", "points", name, "scale")
        return Point(place, codec, scale, spec.get("unit", ""))

    def _located(
        self, spec: Mapping[str, Any], default_type: str, *where: str
    ) -> tuple[Place, Codec]:
        """Where a number is and how to read it."""
        if not self._modbus:
            return self._data_located(spec, default_type, *where)
        place = RegisterPlace(spec["function"], spec["address"])
        if place.function in BIT_FUNCTIONS:
            size = (spec.get("mask", 1).bit_length() + 7) // 8
            return place, Codec(Kind.UNSIGNED, size, Order.LITTLE_BYTES)
        kind, size = KINDS[spec.get("type", default_type)]
        if kind is Kind.BCD:
            size = spec.get("bytes", size)
        elif spec.get("bytes", size) != size:
            self._document.fault(f"this type has {size} bytes", *where, "bytes")
        if place.address + size // 2 > 0x10000:
            self._document.fault("reaches past the last register", *where, "address")
        little = spec.get("word_order", "big") == "little"
        return place, Codec(kind, size, Order.LITTLE_WORDS if little else Order.BIG)

    def _data_located(
        self, spec: Mapping[str, Any], default_type: str, *where: str
    ) -> tuple[Place, Codec]:
        kind, size = KINDS[spec.get("type", default_type)]
        if kind in {Kind.BCD, Kind.UNSIGNED}:
            size = spec.get("bytes", size)
        elif spec.get("bytes", size) != size:
            self._document.fault(f"this type has {size} bytes", *where, "bytes")
        if spec.get("signed", False):
            if kind is not Kind.BCD:
                self._document.fault("only bcd has a sign bit to name", *where, "signed")
            kind = Kind.SIGNED_BCD
        offset = spec.get("offset", 0)
        if 4 + offset + size > LONGEST_DATA:
            self._document.fault("reaches past the longest answer", *where, "offset")
        place = DataPlace(bytes.fromhex(spec["di"]), offset, block="offset" in spec)
        return place, Codec(kind, size, Order.LITTLE_BYTES)

    def _check_overlaps(self, points: Mapping[str, Point]) -> None:
        """Two points may not share a register or a byte: one of the two addresses is wrong."""
        taken: dict[tuple[object, int], str] = {}
        for name, point in points.items():
            clash = next((taken[at] for at in _occupied(point) if at in taken), None)
            if clash is not None:
                self._document.fault(f"overlaps {clash}", "points", name)
            taken.update(dict.fromkeys(_occupied(point), name))

    def _supply(self) -> Supply | None:
        spec = self._data.get("supply")
        if spec is None:
            return None
        disconnect = self._write(spec["disconnect"], "disconnect")
        reconnect = self._write(spec["reconnect"], "reconnect")
        if disconnect == reconnect:
            self._document.fault("writes the same as disconnect", "supply", "reconnect")
        if isinstance(disconnect, RelayCommand) and disconnect.code != TRIP:
            self._document.fault('disconnecting is "1A"', "supply", "disconnect", "command")
        if isinstance(reconnect, RelayCommand) and reconnect.code == TRIP:
            self._document.fault('reconnecting is "1B" or "1C"', "supply", "reconnect", "command")
        permits_only = isinstance(reconnect, RelayCommand) and reconnect.code == PERMIT_CLOSING
        return Supply(disconnect, reconnect, self._state(spec["state"]), permits_only)

    def _write(self, spec: Mapping[str, Any], which: str) -> WriteRequest:
        if not self._modbus:
            return RelayCommand(int(spec["command"], 16))
        values = tuple(int(value) for value in spec.get("values", [spec.get("value")]))
        function, address = spec["function"], spec["address"]
        if function in {5, 6} and len(values) != 1:
            self._document.fault(f"function {function} writes one value", "supply", which, "values")
        if function in {5, 15} and not set(values) <= {0, 1, COIL_ON}:
            self._document.fault("a coil is 0 or 1", "supply", which)
        if function in {15, 16} and address + len(values) > 0x10000:
            self._document.fault("reaches past the last register", "supply", which, "address")
        if function in {5, 15}:
            values = tuple(min(value, 1) for value in values)
        return RegisterWrite(function, address, values)

    def _state(self, spec: Mapping[str, Any]) -> StateRead:
        place, codec = self._located(spec, "u16", "supply", "state")
        is_bits = isinstance(place, RegisterPlace) and place.function in BIT_FUNCTIONS
        widest = (
            (1 << spec.get("mask", 1).bit_length()) - 1 if is_bits else (1 << 8 * codec.size) - 1
        )
        mask: int = spec.get("mask", widest)
        known = [int(spec[key]) for key in ("connected", "disconnected") if key in spec]
        shift = 0
        if any(value & ~mask for value in known):  # not in place, so counted from the lowest bit
            shift = (mask & -mask).bit_length() - 1
        if mask > widest or any(value & ~(mask >> shift) for value in known):
            self._document.fault("a value has bits that are not read", "supply", "state")
        if len(known) != len(set(known)):
            self._document.fault("connected and disconnected are the same", "supply", "state")
        connected, disconnected = spec.get("connected"), spec.get("disconnected")
        return StateRead(
            place,
            codec,
            mask,
            shift,
            None if connected is None else int(connected),
            None if disconnected is None else int(disconnected),
        )

    def _identity(self) -> Identity | None:
        spec = self._data.get("identity")
        return None if spec is None else Identity(*self._located(spec, "bcd", "identity"))

    def _limits(self, energy: Point) -> Limits:
        spec = self._data.get("limits", {})
        given = {key: Decimal(str(value)) for key, value in spec.items()}
        for key, value in given.items():
            if not (value.is_finite() and value > 0):
                self._document.fault("must be above 0", "limits", key)
        if self._document.faults:
            return Limits(None, 1)
        if "rollover_kwh" in given:
            rollover = int(given["rollover_kwh"] * WH_PER_UNIT["kWh"])
        else:
            rollover = rollover_wh(energy.codec.span, energy.scale, energy.unit)
        return Limits(given.get("max_power_kw"), rollover)


def _occupied(point: Point) -> list[tuple[object, int]]:
    """The registers or bytes that a point takes."""
    place = point.place
    if isinstance(place, DataPlace):
        return [(place.di, at) for at in range(place.offset, place.offset + point.codec.size)]
    count = 1 if place.function in BIT_FUNCTIONS else point.codec.size // 2
    return [(place.function, at) for at in range(place.address, place.address + count)]

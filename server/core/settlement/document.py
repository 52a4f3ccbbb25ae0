"""A settled day as the document that is kept with its statement, and its comparison later."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from server.core.errors import InvalidInputError
from server.core.settlement.day import DaySettlement, HourUsage, StatementLine
from server.core.settlement.interval import TrustedReading
from server.core.settlement.meter_day import DeviceDay, GapDay, MeterDay
from server.core.tariff.periods import TouPeriod
from server.core.tariff.versions import TariffVersion

_PERIODS = {period: period.value for period in TouPeriod}
FORMAT = 2


@dataclass(frozen=True)
class DeviceInputs:
    """A device's trusted readings from `first_read_at` to `last_read_at`, `reading_count` of them.

    Among them are what an exchange said, where one began or ended it. No instants: no reading.
    """

    meter_id: int
    meter_code: str
    transformer_ratio: int
    rollover_wh: int
    starts_at: datetime
    ends_at: datetime
    first_read_at: datetime | None
    last_read_at: datetime | None
    reading_count: int
    has_gap: bool
    began_by_exchange: bool
    ended_by_exchange: bool


@dataclass(frozen=True)
class StatementInputs:
    """What a statement says it was made from: enough to gather the same and rate it afresh."""

    day: date
    opened_at: datetime
    closed_at: datetime
    block_start_wh: int
    gap_s: int
    tariff_code: str
    tariff_valid_from: date
    devices: tuple[DeviceInputs, ...]

    @property
    def meters(self) -> list[list[DeviceInputs]]:
        """The devices of each meter in the order of time; one that came back is another."""
        meters: list[list[DeviceInputs]] = []
        for device in self.devices:
            if not (meters and _replaces(device, meters[-1][-1])):
                meters.append([])
            meters[-1].append(device)
        return meters


def _replaces(device: DeviceInputs, before: DeviceInputs) -> bool:
    """Whether it took the place of the device before it."""
    at, before_at = device.first_read_at, before.last_read_at
    return device.began_by_exchange and (device.meter_id, at) == (before.meter_id, before_at)


def statement_document(settlement: DaySettlement, version: TariffVersion) -> dict[str, object]:
    """JSON-able: integers, texts and ISO 8601 times of the site; equal days, equal documents."""
    zone, settled_until = settlement.zone, settlement.settled_until
    return {
        "format": FORMAT,
        "day": settlement.day.isoformat(),
        "day_type": settlement.day_type.value,
        "holidays_known": settlement.holidays_known,
        "timezone": zone.key,
        "starts_at": _edge_text(settlement.starts_at, zone),
        "ends_at": _edge_text(settlement.ends_at, zone),
        "tariff": {
            "code": version.code,
            "valid_from": version.valid_from.isoformat(),
            "kind": version.kind.value,
            "block_period": version.block_period and version.block_period.value,
        },
        "block_start_wh": settlement.block_start_wh,
        "gap_s": settlement.gap_s,
        "energy_wh": settlement.energy_wh,
        "amount_nano_yuan": settlement.amount_nano_yuan,
        "amount_fen": settlement.amount_fen,
        "estimated": settlement.estimated,
        "complete": settlement.complete,
        "settled_until": settled_until and settled_until.astimezone(zone).isoformat(),
        "lines": lines_document(settlement.lines, version),
        "hours": hours_document(settlement.hours, zone),
        "readings": [
            _device(meter, device, zone)
            for meter in settlement.readings
            for device in meter.devices
        ],
    }


def lines_document(
    lines: Iterable[StatementLine], version: TariffVersion
) -> list[dict[str, object]]:
    """A day's lines as its document has them."""
    return [_line(line, version) for line in lines]


def hours_document(hours: Iterable[HourUsage], zone: ZoneInfo) -> list[dict[str, object]]:
    """A day's hours as its document has them."""
    return [_hour(hour, zone) for hour in hours]


def _line(line: StatementLine, version: TariffVersion) -> dict[str, object]:
    lower = version.blocks[line.block - 1].up_to_wh if line.block else 0
    return {
        "period": line.period and line.period.value,
        "block": line.block,
        "block_from_wh": lower,
        "block_up_to_wh": version.blocks[line.block].up_to_wh,
        "price_micro_yuan": line.price_micro_yuan,
        "energy_wh": line.energy_wh,
        "amount_nano_yuan": line.amount_nano_yuan,
        "amount_fen": line.amount_fen,
    }


def _hour(hour: HourUsage, zone: ZoneInfo) -> dict[str, object]:
    start, energy_wh, amount_fen, by_period = hour
    return {
        "start": _edge_text(start, zone),
        "energy_wh": energy_wh,
        "amount_fen": amount_fen,
        "by_period": {_PERIODS[period]: wh for period, wh in by_period if period is not None},
    }


@lru_cache(maxsize=4_096)
def _edge_text(at: datetime, zone: ZoneInfo) -> str:
    """All tenancies of a site have the same hours, and mostly the same days."""
    return at.astimezone(zone).isoformat()


def _device(meter: MeterDay, device: DeviceDay, zone: ZoneInfo) -> dict[str, object]:
    return {
        "meter_id": meter.meter_id,
        "meter": meter.meter_code,
        "transformer_ratio": device.transformer_ratio,
        "rollover_wh": device.rollover_wh,
        "starts_at": _edge_text(device.starts_at, zone),
        "ends_at": _edge_text(device.ends_at, zone),
        "first_read_at": _read_at(device.first, zone),
        "first_register_wh": device.first and device.first.register_wh,
        "last_read_at": _read_at(device.last, zone),
        "last_register_wh": device.last and device.last.register_wh,
        "reading_count": device.reading_count,
        "energy_wh": device.energy_wh,
        "has_gap": bool(device.gaps),
        "gaps": [_gap(gap, zone) for gap in device.gaps],
        "has_later_reading": meter.has_later_reading,
        "began_by_exchange": device.began_by_exchange,
        "ended_by_exchange": device.ended_by_exchange,
    }


def _gap(gap: GapDay, zone: ZoneInfo) -> dict[str, object]:
    by_register = gap.split and {
        "tariff_valid_from": gap.split.valid_from.isoformat(),
        "energy_wh": {period.value: wh for period, wh in gap.split.energy_wh.items()},
    }
    return {
        "starts_at": gap.starts_at.astimezone(zone).isoformat(),
        "ends_at": gap.ends_at.astimezone(zone).isoformat(),
        "energy_wh": gap.energy_wh,
        "by_register": by_register,
    }


def _read_at(reading: TrustedReading | None, zone: ZoneInfo) -> str | None:
    return None if reading is None else reading.read_at.astimezone(zone).isoformat()


def document_differences(
    kept: Mapping[str, object], fresh: Mapping[str, object]
) -> tuple[str, ...]:
    """The names of what differs between a kept document and a fresh one; none: they agree."""
    names = dict.fromkeys((*kept, *fresh))
    return tuple(name for name in names if kept.get(name) != fresh.get(name))


def read_inputs(document: Mapping[str, object]) -> StatementInputs:
    """What a kept document was made from; raises InvalidInputError where it is damaged."""
    try:
        return _read_inputs(document)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"a damaged statement document: {error!r}") from error


def _read_inputs(document: Mapping[str, object]) -> StatementInputs:
    if document["format"] != FORMAT:
        raise InvalidInputError(f"a statement document of format {document['format']!r}")
    tariff = _table(document["tariff"])
    return StatementInputs(
        day=date.fromisoformat(_text(document["day"])),
        opened_at=_instant(document["starts_at"]),
        closed_at=_instant(document["ends_at"]),
        block_start_wh=_integer(document["block_start_wh"]),
        gap_s=_integer(document["gap_s"]),
        tariff_code=_text(tariff["code"]),
        tariff_valid_from=date.fromisoformat(_text(tariff["valid_from"])),
        devices=tuple(_read_device(row) for row in _rows(document["readings"])),
    )


def _read_device(row: Mapping[str, object]) -> DeviceInputs:
    read = row["first_read_at"] is not None
    return DeviceInputs(
        meter_id=_integer(row["meter_id"]),
        meter_code=_text(row["meter"]),
        transformer_ratio=_integer(row["transformer_ratio"]),
        rollover_wh=_integer(row["rollover_wh"]),
        starts_at=_instant(row["starts_at"]),
        ends_at=_instant(row["ends_at"]),
        first_read_at=_instant(row["first_read_at"]) if read else None,
        last_read_at=_instant(row["last_read_at"]) if read else None,
        reading_count=_integer(row["reading_count"]),
        has_gap=_flag(row["has_gap"]),
        began_by_exchange=_flag(row["began_by_exchange"]),
        ended_by_exchange=_flag(row["ended_by_exchange"]),
    )


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"not a flag: {value!r}")
    return value


def _instant(value: object) -> datetime:
    at = datetime.fromisoformat(_text(value))
    if at.utcoffset() is None:
        raise ValueError(f"no offset in {value!r}")
    return at


def half_closed_until(document: Mapping[str, object]) -> datetime | None:
    """The end of a gap that registers split and that goes on after the document's day."""
    ends_at = _instant(document["ends_at"])
    gaps = [gap for row in _rows(document["readings"]) for gap in _rows(row["gaps"])]
    split = [_instant(gap["ends_at"]) for gap in gaps if gap["by_register"] is not None]
    return max((at for at in split if at > ends_at), default=None)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not an integer: {value!r}")
    return value


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"not a table: {value!r}")
    return value


def _rows(value: object) -> list[Mapping[str, object]]:
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r}")
    return [_table(row) for row in value]

"""What is kept of a settled day, and that it settles to the same again."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from server.core.calendar import NO_HOLIDAYS
from server.core.errors import InvalidInputError
from server.core.settlement.day import DaySettlement, settle_day
from server.core.settlement.document import (
    DeviceInputs,
    document_differences,
    read_inputs,
    statement_document,
)
from server.core.settlement.interval import path_from_rows
from server.core.tariff.parse import parse_tariff

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 3, 4)
START = datetime(2026, 3, 3, 16, tzinfo=UTC)
VERSION = parse_tariff(
    {
        "code": "commercial",
        "valid_from": "2026-01-01",
        "blocks": [
            {"up_to_kwh": 10, "prices": {"peak": "1", "valley": "0.25"}},
            {"prices": {"peak": "2", "valley": "0.5"}},
        ],
        "periods": [{"valley": ["00:00-12:00"], "peak": ["12:00-24:00"]}],
    }
)
ROWS = [(START, 1_000), (START + timedelta(days=1, seconds=30), 13_000)]
PATHS = [path_from_rows(7, "M-A101", 2, 10**9, ROWS), path_from_rows(8, "M-A102", 1, 10**9, [])]


def settle(opened_at: datetime | None = None, closed_at: datetime | None = None) -> DaySettlement:
    return settle_day(
        DAY,
        SHANGHAI,
        PATHS,
        VERSION,
        NO_HOLIDAYS,
        block_start_wh=500,
        gap_s=900,
        opened_at=opened_at,
        closed_at=closed_at,
    )


def kept(settlement: DaySettlement) -> dict[str, object]:
    """The document as it comes back from a JSON column."""
    document: dict[str, object] = json.loads(json.dumps(statement_document(settlement, VERSION)))
    return document


LINES = [
    {
        "period": "valley",
        "block": 0,
        "block_from_wh": 0,
        "block_up_to_wh": 10_000,
        "price_micro_yuan": 250_000,
        "energy_wh": 9_500,
        "amount_nano_yuan": 2_375_000_000,
        "amount_fen": 237,
    },
    {
        "period": "peak",
        "block": 1,
        "block_from_wh": 10_000,
        "block_up_to_wh": None,
        "price_micro_yuan": 2_000_000,
        "energy_wh": 11_996,
        "amount_nano_yuan": 23_992_000_000,
        "amount_fen": 2_399,
    },
    {
        "period": "valley",
        "block": 1,
        "block_from_wh": 10_000,
        "block_up_to_wh": None,
        "price_micro_yuan": 500_000,
        "energy_wh": 2_495,
        "amount_nano_yuan": 1_247_500_000,
        "amount_fen": 125,
    },
]

READINGS = [
    {
        "meter_id": 7,
        "meter": "M-A101",
        "transformer_ratio": 2,
        "rollover_wh": 1_000_000_000,
        "first_read_at": "2026-03-04T00:00:00+08:00",
        "first_register_wh": 1_000,
        "last_read_at": "2026-03-05T00:00:30+08:00",
        "last_register_wh": 13_000,
        "reading_count": 2,
        "energy_wh": 23_991,
        "has_gap": True,
        "gaps": [
            {
                "starts_at": "2026-03-04T00:00:00+08:00",
                "ends_at": "2026-03-05T00:00:30+08:00",
                "energy_wh": 24_000,
                "by_register": None,
            }
        ],
        "has_later_reading": True,
        "starts_at": "2026-03-04T00:00:00+08:00",
        "ends_at": "2026-03-05T00:00:00+08:00",
        "began_by_exchange": False,
        "ended_by_exchange": False,
    },
    {
        "meter_id": 8,
        "meter": "M-A102",
        "transformer_ratio": 1,
        "rollover_wh": 1_000_000_000,
        "first_read_at": None,
        "first_register_wh": None,
        "last_read_at": None,
        "last_register_wh": None,
        "reading_count": 0,
        "energy_wh": 0,
        "has_gap": False,
        "gaps": [],
        "has_later_reading": False,
        "starts_at": "2026-03-04T00:00:00+08:00",
        "ends_at": "2026-03-05T00:00:00+08:00",
        "began_by_exchange": False,
        "ended_by_exchange": False,
    },
]


def test_a_document_explains_the_day() -> None:
    document = kept(settle())
    hours = document.pop("hours")
    assert document == {
        "format": 2,
        "day": "2026-03-04",
        "day_type": "workday",
        "holidays_known": False,
        "timezone": "Asia/Shanghai",
        "starts_at": "2026-03-04T00:00:00+08:00",
        "ends_at": "2026-03-05T00:00:00+08:00",
        "tariff": {
            "code": "commercial",
            "valid_from": "2026-01-01",
            "kind": "block",
            "block_period": "month",
        },
        "block_start_wh": 500,
        "gap_s": 900,
        "energy_wh": 23_991,
        "amount_nano_yuan": 27_614_500_000,
        "amount_fen": 2_761,
        "estimated": True,
        "complete": False,
        "settled_until": "2026-03-05T00:00:30+08:00",
        "lines": LINES,
        "readings": READINGS,
    }
    assert isinstance(hours, list)
    assert hours[0]["start"] == "2026-03-04T00:00:00+08:00"
    assert hours[12]["by_period"] == {"peak": hours[12]["energy_wh"]}
    assert sum(hour["amount_fen"] for hour in hours) == 2_761


def test_a_document_names_what_it_was_made_from() -> None:
    end = START + timedelta(days=1)
    inputs = read_inputs(kept(settle()))
    assert (inputs.day, inputs.opened_at, inputs.closed_at) == (DAY, START, end)
    assert (inputs.block_start_wh, inputs.gap_s) == (500, 900)
    assert (inputs.tariff_code, inputs.tariff_valid_from) == ("commercial", date(2026, 1, 1))
    read, unread = inputs.devices
    assert read == DeviceInputs(
        meter_id=7,
        meter_code="M-A101",
        transformer_ratio=2,
        rollover_wh=10**9,
        starts_at=START,
        ends_at=end,
        first_read_at=START,
        last_read_at=end + timedelta(seconds=30),
        reading_count=2,
        has_gap=True,
        began_by_exchange=False,
        ended_by_exchange=False,
    )
    assert (unread.first_read_at, unread.last_read_at, unread.reading_count) == (None, None, 0)


def test_without_a_reading_nothing_is_settled_yet() -> None:
    settled = settle_day(
        DAY, SHANGHAI, PATHS[1:], VERSION, NO_HOLIDAYS, block_start_wh=0, gap_s=900
    )
    assert kept(settled)["settled_until"] is None


def test_a_flat_price_has_no_split_by_period() -> None:
    version = parse_tariff({"code": "flat", "price": "1"})
    settled = settle_day(DAY, SHANGHAI, PATHS, version, NO_HOLIDAYS, block_start_wh=0, gap_s=900)
    document = json.loads(json.dumps(statement_document(settled, version)))
    assert document["lines"][0]["period"] is None
    assert document["tariff"]["block_period"] is None
    assert all(hour["by_period"] == {} for hour in document["hours"])


def test_what_a_document_names_settles_to_the_same_document() -> None:
    noon = START + timedelta(hours=12)
    for settlement in (settle(), settle(opened_at=noon), settle(closed_at=noon)):
        document = kept(settlement)
        inputs = read_inputs(document)
        paths = [
            path_from_rows(
                meter.meter_id,
                meter.meter_code,
                meter.transformer_ratio,
                meter.rollover_wh,
                [
                    row
                    for row in ROWS
                    if meter.first_read_at
                    and meter.last_read_at
                    and meter.first_read_at <= row[0] <= meter.last_read_at
                ],
            )
            for (meter,) in inputs.meters
        ]
        assert [len(path.readings) for path in paths] == [d.reading_count for d in inputs.devices]
        fresh = settle_day(
            inputs.day,
            SHANGHAI,
            paths,
            VERSION,
            NO_HOLIDAYS,
            block_start_wh=inputs.block_start_wh,
            gap_s=inputs.gap_s,
            opened_at=inputs.opened_at,
            closed_at=inputs.closed_at,
        )
        assert fresh == settlement
        assert document_differences(document, kept(fresh)) == ()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"amount_fen": 2_760}, ("amount_fen",)),
        ({"energy_wh": 0, "estimated": False}, ("energy_wh", "estimated")),
        ({"lines": []}, ("lines",)),
        ({"stamp": 1}, ("stamp",)),
        ({}, ()),
    ],
)
def test_a_difference_is_named(change: dict[str, object], names: tuple[str, ...]) -> None:
    document = kept(settle())
    assert document_differences(document | change, document) == names


def test_what_is_missing_is_a_difference() -> None:
    document = kept(settle())
    shorter = {name: value for name, value in document.items() if name != "hours"}
    assert document_differences(shorter, document) == ("hours",)


Damage = Callable[[dict[str, object]], dict[str, object]]


def drop(name: str) -> Damage:
    return lambda document: {key: value for key, value in document.items() if key != name}


def put(**values: object) -> Damage:
    return lambda document: document | values


def put_in_device(**values: object) -> Damage:
    return put(readings=[READINGS[0] | values])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (put(format=1), "a statement document of format 1"),
        (drop("format"), "KeyError('format')"),
        (drop("day"), "KeyError('day')"),
        (put(day="2026-02-30"), "ValueError"),
        (put(day=20_260_304), "not a text: 20260304"),
        (put(starts_at=None), "not a text: None"),
        (put(starts_at="2026-03-04T00:00:00"), "no offset in '2026-03-04T00:00:00'"),
        (put(ends_at="soon"), "Invalid isoformat string: 'soon'"),
        (put(block_start_wh="500"), "not an integer: '500'"),
        (put(gap_s=True), "not an integer: True"),
        (put(tariff="commercial"), "not a table: 'commercial'"),
        (put(tariff={"code": "commercial"}), "KeyError('valid_from')"),
        (put(readings={}), "not a list: {}"),
        (put(readings=[7]), "not a table: 7"),
        (put(readings=[{"meter_id": 7}]), "KeyError('first_read_at')"),
        (put_in_device(meter_id=None), "not an integer: None"),
        (put_in_device(meter=8), "not a text: 8"),
        (put_in_device(has_gap=0), "not a flag: 0"),
        (put_in_device(last_read_at=None), "not a text: None"),
    ],
)
def test_a_damaged_document_is_refused(damage: Damage, why: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_inputs(damage(kept(settle())))
    assert str(refused.value).startswith(("a damaged statement document: ", "a statement document"))
    assert why in str(refused.value)

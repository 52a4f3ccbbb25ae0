"""What is read is kept once, with its points; what is wrong is said in plain words."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from server.devices.simulator.config import DtuGateway, MeterConfig, ModbusTcpGateway
from server.models.database import from_json
from server.services.bus_jobs import JobFailedError, JobKind, ask_meter, wait_for_job
from server.services.exchanges import ExchangeWish, record_exchange
from server.services.wakeups import Wakeups
from server.workers.collector.polling import AFTER_BOUNDARY_S, poll_delay_s
from tests.workers.collected_mall import (
    METER,
    SHOP,
    SITE,
    Mall,
    free_port,
    gateway_table,
    modbus_gateway,
    one,
    open_mall,
    until,
    wall_clock,
)

NOON = datetime(2026, 5, 20, 4, 0, tzinfo=UTC)


async def read_job(mall: Mall, code: str) -> dict[str, object]:
    asked = await ask_meter(
        await mall.meter_id(code),
        JobKind.READ,
        requested_by="test",
        now=wall_clock(),
        timeout_s=3,
    )
    return dict(await wait_for_job(*asked, mall.wakeups, 3))


async def test_polls_become_trusted_readings_with_points_and_identity(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.has_readings("M-1", 2))
    first = (await mall.readings("M-1"))[0]
    assert (first["register_wh"], first["verdict"], first["epoch"]) == (50_000, "trusted", 1)
    points = from_json((await mall.status("M-1"))["points"])
    assert points["energy_total"] == {"value": "50.00", "unit": "kWh"}
    await until(lambda: mall.is_named("M-2"))
    assert (await one("SELECT identity FROM meter WHERE code = 'M-2'"))["identity"] == "2"


async def test_registers_of_periods_are_kept_with_a_reading(
    database: None, wakeups: Wakeups, tmp_path: Path
) -> None:
    config = MeterConfig(code="M-1", profile="acrel/ddsy1352-older", unit=1, start_wh=50_000)
    gateway = ModbusTcpGateway(code="gw-01", listen="127.0.0.1:0", meters=(config,))
    async with open_mall(tmp_path, wakeups, gateway) as mall:
        meter = METER.format(number=1).replace("example/demo-relay", config.profile)
        await mall.load(
            SITE + SHOP.format(number=1) + meter + gateway_table(mall.bank.ports["gw-01"])
        )
        mall.collect()
        await until(lambda: mall.has_readings("M-1", 1))
        sharp, peak, flat, valley, deep = (await mall.readings("M-1"))[0]["periods_wh"]
        assert (deep, sharp + peak + flat + valley) == (None, 50_000)


async def test_a_job_is_answered_as_the_command_prints_it(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.owned_by("first"))
    answer = await read_job(mall, "M-2")
    assert (answer["code"], answer["control_state"]) == ("M-2", "connected")
    assert answer["points"]["energy_total"]["value"] == "50.00"  # type: ignore[index]  # JSON
    assert datetime.fromisoformat(str(answer["read_at"])).tzinfo is not None


async def test_a_job_for_a_gateway_that_is_down_says_so(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.owned_by("first"))
    await mall.bank.gateways["gw-01"].stop()
    with pytest.raises(JobFailedError, match="link_down"):
        await read_job(mall, "M-1")


async def test_an_exchanged_meter_is_named_and_never_charged(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.is_named("M-1"))
    mall.bank.meters["M-1"].exchange(identity=77, start_wh=9_000_000)
    await until(lambda: mall.has_finding("M-1", "identity_changed: expected meter 1, found 77"))
    assert {one["register_wh"] for one in await mall.readings("M-1")} == {50_000}


async def test_a_recorded_exchange_lets_the_new_meter_in(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.is_named("M-1"))
    mall.bank.meters["M-1"].exchange(identity=77, start_wh=9_000_000)
    await until(lambda: mall.has_finding("M-1", "identity_changed: expected meter 1, found 77"))
    now = wall_clock()
    wish = ExchangeWish(now, 50_000, 8_999_990, "a new one")
    await record_exchange(await mall.meter_id("M-1"), wish, actor="engineer", now=now)
    await until(lambda: mall.is_named("M-1"))
    await until(lambda: mall.has_finding("M-1", None))
    registers = {one["register_wh"] for one in await mall.readings("M-1")}
    assert registers == {50_000, 9_000_000}


async def test_a_reading_held_apart_is_a_finding_until_a_good_one_comes(mall: Mall) -> None:
    mall.collect()
    await until(lambda: mall.read("M-1"))
    mall.bank.meters["M-1"].set_register(40_000)
    await until(lambda: mall.has_finding("M-1", "quarantined: backward"))
    mall.bank.meters["M-1"].set_register(50_100)
    await until(lambda: mall.has_finding("M-1", None))


async def test_an_import_moves_a_gateway_within_five_seconds(
    database: None, wakeups: Wakeups, tmp_path: Path
) -> None:
    old, new = modbus_gateway("old", range(1, 2)), modbus_gateway("new", range(2, 3))
    async with open_mall(tmp_path, wakeups, old, new) as mall:
        site = SITE + SHOP.format(number=1) + METER.format(number=1)
        await mall.load(site + gateway_table(mall.bank.ports["old"]))
        mall.collect()
        await until(lambda: mall.is_named("M-1"))
        moved = site.replace("unit = 1", "unit = 2")
        await mall.load(moved + gateway_table(mall.bank.ports["new"]))
        await until(lambda: mall.has_finding("M-1", "identity_changed"))
        assert [mall.bank.gateways[code].link_count for code in ("old", "new")] == [0, 1]


async def test_what_cannot_be_opened_is_a_finding_and_stops_nobody_else(
    mall: Mall, tmp_path: Path
) -> None:
    password = tmp_path / "password.txt"
    password.write_text("02 000000")
    for number, link in (
        (3, 'link = "mqtt"'),
        (4, 'link = "dtu"\nregistration = "D4"\npassword_file = "password.txt"'),
        (5, 'link = "dtu"\nregistration = "D5"'),
        (6, 'link = "modbus-tcp"\naddress = "127.0.0.1:1"'),
    ):
        meter = METER.format(number=number).replace("gw-01", f"gw-0{number}")
        table = f'[[gateway]]\ncode = "gw-0{number}"\n{link}\n'
        mall.site += table + SHOP.format(number=number) + meter
    gone = METER.format(number=7).replace("example/demo-relay", "example/gone")
    await mall.load(mall.site + gone + SHOP.format(number=7))
    password.unlink()
    mall.collect()
    await until(lambda: mall.has_finding("M-3", "link_unsupported"))
    await until(lambda: mall.has_finding("M-4", "password_file"))
    await until(lambda: mall.has_finding("M-5", "device_misconfigured"))
    await until(lambda: mall.has_finding("M-6", "link_down"))
    await until(lambda: mall.has_finding("M-7", "profile_unknown"))
    await until(lambda: mall.read("M-1"))
    with pytest.raises(JobFailedError, match="link_unsupported"):
        await read_job(mall, "M-3")
    with pytest.raises(JobFailedError, match="profile_unknown"):
        await read_job(mall, "M-7")


async def test_a_dtu_dials_in_and_speaks_dlt645(
    database: None, wakeups: Wakeups, tmp_path: Path
) -> None:
    port = free_port()
    meter = MeterConfig(
        code="M-1",
        profile="standard/dlt645-2007-relay",
        address="202605240001",
        password="02123456",
        start_wh=50_000,
    )
    dtu = DtuGateway(
        code="gw-01",
        dial=f"127.0.0.1:{port}",
        registration="DTU1",
        heartbeat="HB",
        redial_seconds=1,
        meters=(meter,),
    )
    (tmp_path / "meters.txt").write_text("02 123456\n")
    async with open_mall(tmp_path, wakeups, dtu) as mall:
        gateway = (
            '[[gateway]]\ncode = "gw-01"\nlink = "dtu"\nregistration = "DTU1"\nheartbeat = "HB"\n'
            'allow_from = ["127.0.0.0/8"]\npassword_file = "meters.txt"\nbaud = 115200\n'
            'serial_format = "8E1"\n'
        )
        table = METER.format(number=1).replace("unit = 1", 'address = "202605240001"')
        table = table.replace("example/demo-relay", "standard/dlt645-2007-relay")
        await mall.load(SITE + gateway + SHOP.format(number=1) + table)
        mall.collect(dtu_listen=("127.0.0.1", port))
        await until(lambda: mall.read("M-1"))
        await mall.run_empty(1)
        await until(lambda: mall.confirmed("M-1", "disconnected"))
        await mall.pay("A1", 10_000)
        await until(lambda: mall.confirmed("M-1", "connected"), within_s=3.0)
        assert mall.bank.meters["M-1"].contact_connected


@pytest.mark.parametrize(
    ("meter_id", "interval_s", "boundary_s", "since_s", "delay_s"),
    [
        pytest.param(0, 60, None, 60, 60, id="its own phase"),
        pytest.param(0, 60, 17, 60, 17 + AFTER_BOUNDARY_S, id="right after a boundary"),
        pytest.param(0, 60, 3_600, 60, 60, id="a boundary far away"),
        pytest.param(0, 900, 0, 1, AFTER_BOUNDARY_S, id="now, though it was just read"),
    ],
)
def test_when_a_meter_is_read_next(
    meter_id: int, interval_s: float, boundary_s: int | None, since_s: float, delay_s: float
) -> None:
    boundary = None if boundary_s is None else NOON + timedelta(seconds=boundary_s)
    found = poll_delay_s(meter_id, interval_s, NOON, boundary, since_s)
    assert found == pytest.approx(delay_s)


def test_meters_are_spread_over_the_interval_and_keep_their_places() -> None:
    delays = sorted(poll_delay_s(number, 60, NOON, None, 60) for number in range(1, 33))
    gaps = [later - earlier for earlier, later in pairwise(delays)]
    assert min(gaps) > 0.5
    assert max(gaps) < 4
    later = NOON + timedelta(hours=7)
    again = sorted(poll_delay_s(number, 60, later, None, 60) for number in range(1, 33))
    assert again == pytest.approx(delays)


def test_a_turn_right_after_another_is_left_out() -> None:
    nearly = poll_delay_s(1, 60, NOON, None, 60)
    at = NOON + timedelta(seconds=nearly - 5)
    assert poll_delay_s(1, 60, at, None, 1) == pytest.approx(65)
    assert poll_delay_s(1, 60, at, None, 30) == pytest.approx(5)

"""The last decision before a relay is moved, and what a report may change."""

from datetime import UTC, datetime, timedelta

import pytest

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import desk_payment
from server.core.supply.control_state import ControlState
from server.core.supply.state import ActionKind
from server.models.database import Row, pool, rows, transaction
from server.services.controls import authorise, news, pending_controls, record, wished_action
from server.services.journal import post
from server.services.leases import claim_leases
from server.services.readings import NewFinding, NewReading, keep, record_findings
from server.services.settlement import settle_due
from server.services.site_import import ImportReport
from server.services.supply_holds import switch_meter

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONNECTED, DISCONNECTED = ControlState.CONNECTED, ControlState.DISCONNECTED


class Meter:
    """The mall's only meter, its gateway owned by a collector."""

    meter_id: int
    gateway_id: int
    epoch: int

    @classmethod
    async def owned(cls) -> "Meter":
        made = cls()
        ((made.gateway_id, made.epoch),) = (await claim_leases("a", 1)).items()
        made.meter_id = (await rows(pool(), "SELECT id FROM meter"))[0]["id"]
        return made

    def reading(self, after: timedelta, wh: int, *, epoch: int | None = None) -> NewReading:
        return NewReading(self.meter_id, NOW + after, wh, self.epoch if epoch is None else epoch)

    async def read(self, after: timedelta, wh: int) -> None:
        await keep([self.reading(after, wh)], NOW + after)
        await settle_due(NOW + after)

    async def see(self, state: ControlState, after: timedelta = HOUR) -> None:
        await record(self.meter_id, self.epoch, NOW + after, written=None, found=state)

    async def empty(self) -> None:
        """Connected, read, and then overdrawn: a cut is wished."""
        await self.read(timedelta(0), 5_000)
        await self.see(CONNECTED, timedelta(0))
        await self.read(HOUR, 15_100)

    async def control(self) -> Row:
        return (await rows(pool(), "SELECT * FROM meter_control"))[0]

    async def may(self, wanted: ControlState, found: ControlState, wh: int = 15_200) -> bool:
        at = HOUR + timedelta(minutes=1)
        return await authorise(self.meter_id, wanted, self.reading(at, wh), found, NOW + at)


@pytest.fixture
async def meter(mall: ImportReport) -> Meter:
    return await Meter.owned()


async def pay(amount_fen: int) -> None:
    """Money that nobody decided on yet."""
    found = (await rows(pool(), "SELECT id, site_id FROM tenancy"))[0]
    posting = desk_payment("cash", electricity_wallet(found["id"]), amount_fen)
    async with transaction() as connection:
        await post(connection, found["site_id"], posting, key="k", booked_at=NOW)


async def test_a_cut_that_stands_is_noted_before_it_is_made(meter: Meter) -> None:
    await meter.empty()
    assert await wished_action(meter.meter_id, NOW + HOUR) is ActionKind.DISCONNECT
    assert await meter.may(DISCONNECTED, CONNECTED)
    control = await meter.control()
    assert (control["commanded"], control["unanswered_writes"]) == ("disconnected", 1)
    assert len(await rows(pool(), "SELECT 1 FROM reading")) == 3


async def test_money_that_came_in_between_stops_the_cut(meter: Meter) -> None:
    await meter.empty()
    await pay(10_000)
    assert not await meter.may(DISCONNECTED, CONNECTED)
    control = await meter.control()
    assert (control["policy_state"], control["commanded"]) == ("connected", None)


async def test_the_fresh_reading_itself_decides(meter: Meter) -> None:
    await meter.empty()
    await pay(20)
    assert await meter.may(DISCONNECTED, CONNECTED, wh=15_400)  # the money is used up already


async def test_a_relay_that_is_as_wished_is_not_moved(meter: Meter) -> None:
    await meter.empty()
    assert not await meter.may(DISCONNECTED, DISCONNECTED)
    control = await meter.control()
    assert (control["confirmed"], control["commanded"]) == ("disconnected", None)
    assert control["confirmed_at"] == NOW + HOUR + timedelta(minutes=1)


async def test_a_wish_taken_back_is_not_carried_out(meter: Meter) -> None:
    await meter.empty()
    assert not await meter.may(CONNECTED, DISCONNECTED)


async def test_a_hold_needs_no_decision_of_the_policy(meter: Meter) -> None:
    await meter.read(timedelta(0), 5_000)
    await meter.see(CONNECTED, timedelta(0))
    site_id = (await rows(pool(), "SELECT site_id FROM meter"))[0]["site_id"]
    await switch_meter(site_id, "M-1", disconnect=True, actor="m", reason="fire", now=NOW)
    await meter.see(CONNECTED, timedelta(minutes=1))
    assert await meter.may(DISCONNECTED, CONNECTED, wh=5_100)


async def test_a_stale_epoch_may_do_nothing(meter: Meter) -> None:
    await meter.empty()
    old = meter.epoch
    await rows(pool(), "UPDATE gateway_lease SET epoch = epoch + 1, owner = 'b'")
    assert not await meter.may(DISCONNECTED, CONNECTED)
    assert await record(meter.meter_id, old, NOW, written=DISCONNECTED, found=None) is None
    assert (await keep([meter.reading(2 * HOUR, 15_300)], NOW + 2 * HOUR)).stale == 1
    await record_findings([NewFinding(meter.meter_id, old, "meter_mute: silent")], NOW)
    assert (await rows(pool(), "SELECT finding FROM meter_status"))[0]["finding"] is None


async def test_a_reading_held_apart_authorises_as_the_trusted_ones_do(meter: Meter) -> None:
    await meter.empty()
    assert await meter.may(DISCONNECTED, CONNECTED, wh=14_000)
    assert (await meter.control())["commanded"] == "disconnected"


@pytest.mark.parametrize(
    ("confirmed", "seen", "told"),
    [
        (CONNECTED, CONNECTED, False),
        (CONNECTED, DISCONNECTED, True),
        (DISCONNECTED, CONNECTED, True),
        (None, CONNECTED, True),
    ],
)
async def test_what_is_news(
    meter: Meter, confirmed: ControlState | None, seen: ControlState, told: bool
) -> None:
    if confirmed is not None:
        await meter.see(confirmed)
    assert await news({meter.meter_id: seen}, NOW) == ([meter.meter_id] if told else [])


async def test_pending_leaves_out_who_is_resting(meter: Meter) -> None:
    assert [one.meter_id for one in await pending_controls([meter.gateway_id], NOW)] == [
        meter.meter_id
    ]
    assert await pending_controls([meter.gateway_id], NOW, but=[meter.meter_id]) == []
    assert await pending_controls([999], NOW) == []


def test_no_register_runs_below_zero() -> None:
    with pytest.raises(InvalidInputError):
        NewReading(1, NOW, -1, epoch=1)

"""A manager's or an engineer's disconnection: a hold on the meters, which only they end."""

from datetime import datetime

from server.core.errors import ConflictError, NotFoundError
from server.core.supply.events import Event, held, hold_released
from server.core.supply.state import step
from server.models.database import Connection, Row, rows, transaction
from server.services.manager_acts import Deed, check_reason, record_act
from server.services.meter_controls import (
    CONTROL_OF_METER,
    CONTROLS_OF_SHOPS,
    control_of,
    save_control,
)

HOLD = """
UPDATE meter_control SET hold_reason = $2, hold_by = $3, held_at = $4 WHERE meter_id = $1
"""
SHOP = "SELECT id FROM shop WHERE site_id = $1 AND code = $2"
METER = """
SELECT meter.id, meter.site_id, meter.gateway_id FROM meter
WHERE meter.site_id = $1 AND meter.code = $2
"""


class NoRelayError(ConflictError):
    """The meter, or every meter of the shop, has no relay to switch."""

    code = "no_relay"


async def hold_shop(
    site_id: int, shop_code: str, *, actor: str, reason: str, now: datetime
) -> list[int]:
    """A manager disconnects a shop until a manager ends it; the gateways to wake."""
    return await _switch_shop(site_id, shop_code, held(), actor=actor, reason=reason, now=now)


async def release_shop(
    site_id: int, shop_code: str, *, actor: str, reason: str, now: datetime
) -> list[int]:
    """A manager ends a hold, or closes what others opened; the gateways to wake."""
    return await _switch_shop(
        site_id, shop_code, hold_released(), actor=actor, reason=reason, now=now
    )


async def _switch_shop(
    site_id: int, shop_code: str, event: Event, *, actor: str, reason: str, now: datetime
) -> list[int]:
    check_reason(reason)
    async with transaction() as connection:
        shops = await rows(connection, SHOP, site_id, shop_code)
        if not shops:
            raise NotFoundError(f"no shop {shop_code}")
        found = await rows(connection, CONTROLS_OF_SHOPS, [shops[0]["id"]])
        if not found:
            raise NoRelayError(f"no meter of {shop_code} has a relay")
        for one in found:
            await _switch(connection, one, event, actor=actor, reason=reason, now=now)
        act = "disconnect" if event == held() else "reconnect"
        deed = Deed(site_id, actor, act, f"shop:{shop_code}", reason, {})
        await record_act(connection, deed, now)
        return sorted({one["gateway_id"] for one in found})


async def switch_meter(
    site_id: int, meter_code: str, *, disconnect: bool, actor: str, reason: str, now: datetime
) -> tuple[int, int]:
    """Hold one meter disconnected, or end that; its id and its gateway's."""
    check_reason(reason)
    async with transaction() as connection:
        meters = await rows(connection, METER, site_id, meter_code)
        if not meters:
            raise NotFoundError(f"no meter {meter_code}")
        found = await rows(connection, CONTROL_OF_METER, meters[0]["id"])
        if not found:
            raise NoRelayError(f"meter {meter_code} has no relay")
        event = held() if disconnect else hold_released()
        await _switch(connection, found[0], event, actor=actor, reason=reason, now=now)
        act = "disconnect" if disconnect else "reconnect"
        deed = Deed(site_id, actor, act, f"meter:{meter_code}", reason, {})
        await record_act(connection, deed, now)
        return meters[0]["id"], meters[0]["gateway_id"]


async def _switch(
    connection: Connection, found: Row, event: Event, *, actor: str, reason: str, now: datetime
) -> None:
    control = step(control_of(found), event, now)
    hold = (reason, actor[:64], now) if control.hold else (None, None, None)
    await rows(connection, HOLD, found["meter_id"], *hold)
    await save_control(connection, found["meter_id"], control, now)

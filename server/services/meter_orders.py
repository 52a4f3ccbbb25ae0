"""What an engineer orders of one meter, and waits for: a reading, a disconnection, its end."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from server.core.errors import UnavailableError
from server.core.supply.control_state import ControlState
from server.models.database import pool, row
from server.services.bus_jobs import JobKind, ask_meter, find_meter, wait_for_job
from server.services.supply_holds import switch_meter
from server.services.wakeups import Wakeups, gateway_topic

READ_TIMEOUT_S = 30
CONTROL_TIMEOUT_S = 30
LOOK_S = 0.2

CONFIRMED = """
SELECT control.confirmed, control.confirmed_at, control.case_code FROM meter_control control
WHERE control.meter_id = $1
"""
OWNED = """
SELECT 1 AS owned FROM gateway_lease
WHERE gateway_id = $1 AND owner IS NOT NULL AND held_until > clock_timestamp()
"""


class NotConfirmedError(UnavailableError):
    """The wish is kept, but no read-back has shown it yet."""

    code = "not_confirmed"


async def read_meter(
    code: str, site: str | None, wakeups: Wakeups, *, actor: str, now: datetime
) -> Mapping[str, object]:
    """Read one meter now; its points and control state; raises typed errors."""
    meter_id, _ = await find_meter(code, site)
    job_id, gateway_id = await ask_meter(
        meter_id, JobKind.READ, requested_by=actor, now=now, timeout_s=READ_TIMEOUT_S
    )
    return await wait_for_job(job_id, gateway_id, wakeups, READ_TIMEOUT_S)


async def switch_and_wait(
    code: str,
    site: str | None,
    wanted: ControlState,
    wakeups: Wakeups,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> ControlState:
    """Hold a meter disconnected, or end that, and wait for the read-back.

    Raises NotConfirmedError when there is none in time, or nobody owns the gateway; the wish stays.
    """
    _, site_id = await find_meter(code, site)
    disconnect = wanted is ControlState.DISCONNECTED
    meter_id, gateway_id = await switch_meter(
        site_id, code, disconnect=disconnect, actor=actor, reason=reason, now=now
    )
    if await row(pool(), OWNED, gateway_id) is None:
        raise NotConfirmedError("no collector owns the meter's gateway; the wish is kept")
    await wakeups.tell(gateway_topic(gateway_id))
    return await _wait_for_read_back(meter_id, wanted, now)


async def _wait_for_read_back(meter_id: int, wanted: ControlState, since: datetime) -> ControlState:
    for _ in range(int(CONTROL_TIMEOUT_S / LOOK_S)):
        found = await row(pool(), CONFIRMED, meter_id)
        if found is not None and found["confirmed"] == wanted.value:
            return wanted
        await asyncio.sleep(LOOK_S)
    found = await row(pool(), CONFIRMED, meter_id)
    shown = found["confirmed"] if found else None
    case = f" ({found['case_code']})" if found and found["case_code"] else ""
    waited = timedelta(seconds=CONTROL_TIMEOUT_S)
    raise NotConfirmedError(
        f"asked at {since:%H:%M:%S}; after {waited} the meter still shows {shown}{case}"
    )

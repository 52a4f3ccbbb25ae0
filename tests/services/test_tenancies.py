"""A tenancy's overview: what decides each of its parts."""

from datetime import timedelta
from pathlib import Path

import pytest

from server.core.errors import NotFoundError
from server.models.database import pool, rows
from server.services import tenancies
from tests.fakes.town import NOW, build_mall, tenancy_id_of, use

DAY = [500] * 14  # from 10:00 to midnight: 680 fen


async def test_nobodys_overview_is_not_found(database: None) -> None:
    with pytest.raises(NotFoundError):
        await tenancies.overview(1, NOW)


@pytest.mark.parametrize(
    ("wallet_fen", "days_left"),
    [
        pytest.param(6_800, 10, id="ten days of the mean"),
        pytest.param(6_799, 9, id="only whole days"),
        pytest.param(679, 0, id="not a day"),
        pytest.param(0, 0, id="nothing"),
        pytest.param(-5_000, 0, id="overdrawn"),
        pytest.param(10**12, 9_999, id="longer than anybody plans"),
    ],
)
async def test_days_left_are_whole_days_at_the_mean(
    database: None, tmp_path: Path, wallet_fen: int, days_left: int
) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    at = await use(site_id, "A1", NOW, [*DAY, 0])
    await rows(
        pool(),
        "UPDATE wallet SET balance_fen = $2 FROM account WHERE account.id = wallet.account_id"
        " AND account.tenancy_id = $1 AND account.kind = 'electricity_wallet'",
        *(tenancy_id, wallet_fen),
    )
    assert (await tenancies.overview(tenancy_id, at)).days_left == days_left


async def test_today_does_not_count_and_old_use_says_nothing(
    database: None, tmp_path: Path
) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    at = await use(site_id, "A1", NOW, [9_000])
    assert (await tenancies.overview(tenancy_id, at)).days_left is None
    tomorrow = await tenancies.overview(tenancy_id, at + timedelta(days=1))
    assert tomorrow.days_left is not None
    much_later = at + timedelta(days=tenancies.DAYS_LOOKED_BACK + 1)
    assert (await tenancies.overview(tenancy_id, much_later)).days_left is None


SECOND_METER = """
WITH made AS (
    INSERT INTO meter (site_id, code, gateway_id, unit, profile, transformer_ratio, role, shop_id,
                       rollover_wh, has_relay)
    SELECT site_id, 'M-A1b', gateway_id, 99, profile, transformer_ratio, role, shop_id,
           rollover_wh, has_relay
    FROM meter WHERE code = 'M-A1' RETURNING id
)
INSERT INTO meter_control (meter_id, policy_state, confirmed, answered_writes, unanswered_writes,
                           disconnected_by_us, permit_only, permitted)
SELECT id, 'connected', $1, 0, 0, false, false, false FROM made
"""


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("connected", "connected", "connected"),
        ("connected", "disconnected", "disconnected"),
        ("connected", None, None),
        (None, "disconnected", "disconnected"),
        ("connected", "ready_for_reconnection", "ready_for_reconnection"),
    ],
)
async def test_several_meters_are_shown_as_one(
    database: None, tmp_path: Path, first: str | None, second: str | None, shown: str | None
) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    await use(site_id, "A1", NOW, [100])
    await rows(pool(), "UPDATE meter_control SET confirmed = $1", first)
    await rows(pool(), SECOND_METER, second)
    seen = await tenancies.overview(tenancy_id, NOW)
    assert seen.control_state == shown
    assert seen.last_reading_at is None  # the second was never read: no age can be claimed
    listed = await tenancies.summaries([tenancy_id])
    assert (listed[0].control_state, listed[0].last_reading_at) == (shown, None)


async def test_a_tariff_that_is_not_valid_yet_has_no_price(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    seen = await tenancies.overview(tenancy_id, NOW.replace(year=2025))
    assert seen.price_now is None

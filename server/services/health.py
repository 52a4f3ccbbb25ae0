"""Whether the tables can be reached, and the numbers an operator watches."""

import asyncio
from datetime import datetime, timedelta

from tortoise.exceptions import BaseORMException

from server.core.errors import UnavailableError
from server.models import database
from server.services.holidays import sites_without_holidays

TIMEOUT_S = 2.0
SILENT_AFTER = timedelta(minutes=30)


async def database_problem() -> str | None:
    """None, or why the database cannot be used, in a word for operators."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await database.rows(database.pool(), "SELECT id FROM site LIMIT 1")
    except (BaseORMException, UnavailableError, TimeoutError) as error:
        return type(error).__name__
    return None


async def table_numbers(now: datetime) -> dict[str, int]:
    """Counts over all sites, by name."""
    found = await database.row(database.pool(), _NUMBERS, now - SILENT_AFTER, now)
    numbers = {name: int(value) for name, value in (found or {}).items()}
    return numbers | {"sites_without_holidays": await sites_without_holidays(now)}


_NUMBERS = """
SELECT (SELECT count(*) FROM meter) AS meters,
    (SELECT count(*) FROM meter m LEFT JOIN meter_status s ON s.meter_id = m.id
        WHERE s.read_at IS NULL OR s.read_at < $1) AS meters_silent,
    (SELECT count(*) FROM meter_status WHERE finding IS NOT NULL) AS meters_with_finding,
    (SELECT count(*) FROM meter_control WHERE confirmed = 'disconnected') AS relays_disconnected,
    (SELECT count(*) FROM meter_control WHERE confirmed IS DISTINCT FROM
        CASE WHEN hold_reason IS NULL THEN policy_state ELSE 'disconnected' END)
        AS relays_unconfirmed,
    (SELECT count(*) FROM meter_control WHERE case_code IS NOT NULL) AS relay_cases,
    (SELECT count(*) FROM payment_notice WHERE settled_at IS NULL) AS payment_notices_open,
    (SELECT count(*) FROM payment_case WHERE closed_at IS NULL) AS payment_cases_open,
    (SELECT count(*) FROM reconciliation_day WHERE finished_at IS NULL
        AND tried_at > $2::timestamptz - interval '2 hours') AS reconciliation_days_behind,
    (SELECT count(*) FROM reconciliation_difference found
        LEFT JOIN payment_case shown ON shown.id = found.case_id
        WHERE found.cured_at IS NULL AND shown.closed_at IS NULL) AS reconciliation_differences,
    (SELECT coalesce(extract(epoch FROM min(newest)), 0)::bigint FROM (
        SELECT max(mark.day) AS newest FROM merchant
        JOIN reconciliation_day mark ON mark.platform = merchant.platform
            AND mark.merchant_id = merchant.merchant_id AND mark.finished_at IS NOT NULL
        GROUP BY merchant.platform, merchant.merchant_id) AS finished)
        AS reconciliation_last_day_seconds,
    (SELECT count(*) FROM outbox_message WHERE sent_at IS NULL AND error IS NULL) AS outbox_open,
    (SELECT count(*) FROM bus_job WHERE finished_at IS NULL) AS bus_jobs_open,
    (SELECT count(*) FROM gateway g LEFT JOIN gateway_lease l ON l.gateway_id = g.id
        WHERE l.held_until IS NULL OR l.held_until < $2) AS gateways_unowned
"""

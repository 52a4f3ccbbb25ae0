"""What an exchange would do is what it does, and a look at it changes nothing."""

from dataclasses import replace
from datetime import date

import pytest

from server.core.errors import InvalidInputError, NotFoundError
from server.models.database import pool, rows
from server.services.exchange_previews import ExchangePreview, meter_facts, preview_exchange
from server.services.settlement import close_days, settle_due
from server.services.site_import import ImportReport
from tests.services.test_exchanges import (
    LATE,
    NEW,
    OLD,
    WISH,
    exchange,
    hour,
    keep_at,
    meter_id_of,
)

KEPT = """
SELECT (SELECT count(*) FROM meter_exchange) AS exchanges,
       (SELECT count(*) FROM manager_act) AS acts,
       (SELECT count(*) FROM settlement_due) AS due,
       (SELECT count(*) FROM correction_due) AS corrections,
       (SELECT sum(transformer_ratio) FROM meter) AS ratios,
       (SELECT string_agg(verdict, ' ' ORDER BY read_at) FROM reading) AS verdicts,
       (SELECT string_agg(finding, ' ') FROM meter_status) AS findings,
       (SELECT string_agg(energy_wh || ':' || amount_fen, ' ' ORDER BY day) FROM open_day) AS days
"""


async def look(**changes: object) -> ExchangePreview:
    """A preview that leaves everything as it was."""
    kept = await rows(pool(), KEPT)
    meter_id = await meter_id_of()
    preview = await preview_exchange(meter_id, replace(WISH, **changes), LATE)  # type: ignore[arg-type]  # fields by name
    assert await rows(pool(), KEPT) == kept
    return preview


async def test_open_days_are_shown_as_they_will_be(mall: ImportReport) -> None:
    await keep_at(*OLD, *NEW)
    await settle_due(LATE)
    preview = await look(transformer_ratio=2)
    counted = preview.counted
    assert (counted.before, counted.old_wh) == ((hour(1), 6_000), 1_000)
    assert (counted.newest, counted.new_wh) == ((hour(4), 2_100), 4_000)
    assert preview.readings_trusted == 2
    assert (preview.open_before, preview.open_after) == ((1_000, 100), (6_000, 600))
    assert (preview.closed_days, preview.closed_from) == (0, None)
    assert await exchange(replace(WISH, transformer_ratio=2)) == 2
    await settle_due(LATE)
    days = await rows(pool(), "SELECT energy_wh, amount_fen FROM open_day")
    assert [(one["energy_wh"], one["amount_fen"]) for one in days] == [preview.open_after]


async def test_before_the_new_device_is_read_nothing_is_said_of_it(mall: ImportReport) -> None:
    preview = await look()
    assert (preview.counted.before, preview.counted.newest) == (None, None)
    await keep_at(*OLD)
    preview = await look()
    assert (preview.counted.old_wh, preview.counted.new_wh) == (1_000, None)
    assert preview.open_after == (2_000, 200)


async def test_closed_days_are_counted(mall: ImportReport) -> None:
    await keep_at(*((at, 5_000 + 1_000 * at) for at in range(17)))
    await settle_due(LATE)
    assert await close_days(LATE) == 1
    preview = await look(at=hour(13.5), final_wh=18_500, first_wh=18_500)
    assert (preview.closed_days, preview.closed_from) == (1, date(2026, 5, 20))


async def test_what_cannot_be_recorded_cannot_be_previewed(mall: ImportReport) -> None:
    await keep_at(*OLD)
    with pytest.raises(InvalidInputError, match="cannot follow 6000 Wh"):
        await look(final_wh=5_999)
    with pytest.raises(NotFoundError):
        await meter_facts(99)
    assert (await meter_facts(await meter_id_of())).shop_code == "A1"

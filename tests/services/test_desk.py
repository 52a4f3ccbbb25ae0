"""Money at the desk: once a receipt, by a method that there is, to somebody who is there."""

import asyncio
from datetime import UTC, datetime

import pytest

from server.core.errors import InvalidInputError, MallwattError, NotFoundError
from server.models.database import pool, rows
from server.services.desk import ReceiptUsedError, take_desk_payment
from server.services.journal import Posted
from server.services.site_import import ImportReport
from tests.services.money import wallet_fen

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def take(
    tenancy_id: int = 1, amount_fen: int = 500, method: str = "cash", receipt_no: str = "R-1"
) -> Posted:
    return await take_desk_payment(
        tenancy_id, amount_fen, method=method, receipt_no=receipt_no, paid_at=NOW, now=NOW
    )


async def test_a_receipt_counts_once_however_often_it_is_sent(mall: ImportReport) -> None:
    posted = await asyncio.gather(*(take() for _ in range(6)))
    assert sum(not one.repeated for one in posted) == 1
    assert await wallet_fen(1) == 1_500


REFUSED: list[tuple[dict[str, object], type[MallwattError]]] = [
    ({"amount_fen": 501}, ReceiptUsedError),
    ({"method": "bank_transfer"}, ReceiptUsedError),
    ({"receipt_no": "R-2", "amount_fen": 0}, InvalidInputError),
    ({"receipt_no": "R-2", "amount_fen": -5}, InvalidInputError),
    ({"receipt_no": "R-2", "method": "barter"}, InvalidInputError),
    ({"receipt_no": ""}, InvalidInputError),
    ({"receipt_no": "R" * 65}, InvalidInputError),
    ({"receipt_no": "R\0"}, InvalidInputError),
    ({"receipt_no": "R-2", "tenancy_id": 99}, NotFoundError),
]


async def test_what_is_refused_changes_nothing(mall: ImportReport) -> None:
    await take()
    for wish, error in REFUSED:
        with pytest.raises(error):
            await take(**wish)  # type: ignore[arg-type]  # one field a case
    assert await wallet_fen(1) == 1_500
    assert len(await rows(pool(), "SELECT id FROM ledger_transaction")) == 2


async def test_a_payment_lights_a_dark_shop_in_its_own_transaction(mall: ImportReport) -> None:
    await rows(pool(), "UPDATE wallet SET balance_fen = -1")
    await rows(
        pool(),
        "UPDATE tenancy SET supply_state = 'disconnected', overdrawn_since = $1",
        NOW,
    )
    await take(amount_fen=2)
    found = await rows(pool(), "SELECT supply_state FROM tenancy")
    assert found == [{"supply_state": "connected"}]

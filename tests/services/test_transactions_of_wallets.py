"""The journal in pages: complete, in order, and only what a tenant may see."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidInputError
from server.core.ledger.accounts import electricity_wallet
from server.core.ledger.flows import adjustment, top_up_settled
from server.models.database import transaction
from server.services.journal import post
from server.services.transactions import ID_MAX, moves, read_cursor, write_cursor
from tests.fakes.town import NOW, build_mall, tenancy_id_of


@given(st.integers(min_value=0, max_value=ID_MAX))
def test_a_cursor_leads_back_to_its_place(item_id: int) -> None:
    assert read_cursor(write_cursor(item_id)) == item_id


@given(st.text(max_size=60))
def test_no_other_text_is_a_cursor(text: str) -> None:
    try:
        item_id = read_cursor(text)
    except InvalidInputError:
        return
    assert write_cursor(item_id) == text


@pytest.mark.parametrize("item_id", [ID_MAX + 1, 10**19 - 1])
def test_a_cursor_beyond_all_ids_is_none(item_id: int) -> None:
    with pytest.raises(InvalidInputError):
        read_cursor(write_cursor(item_id))


async def test_pages_follow_each_other_without_a_gap(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    wallet = electricity_wallet(tenancy_id)
    async with transaction() as connection:
        for number in range(1, 8):
            posting = top_up_settled("wechat", wallet, number)
            await post(connection, site_id, posting, key=f"t-{number}", booked_at=NOW)
    seen: list[int] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await moves(tenancy_id, "electricity", cursor, limit=3)
        seen += [move.amount_fen for move in page.items]
        cursor, pages = page.next_cursor, pages + 1
    assert seen == [7, 6, 5, 4, 3, 2, 1, 100_000]
    assert pages == 3


async def test_only_allowed_details_are_shown(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    tenancy_id = await tenancy_id_of("A1", site_id)
    details = {
        "reason": "谢谢",
        "receipt_no": "R-1",
        "actor": "eve",
        "transaction_id": "42",
        "out_trade_no": "43",
    }
    async with transaction() as connection:
        posting = adjustment(electricity_wallet(tenancy_id), -5, details)
        await post(connection, site_id, posting, key="a-1", booked_at=NOW)
    newest = (await moves(tenancy_id, "electricity", None)).items[0]
    assert (newest.kind, newest.amount_fen) == (posting.flow, -5)
    assert newest.details == {"reason": "谢谢", "receipt_no": "R-1"}


async def test_neighbours_wallets_are_apart(database: None, tmp_path: Path) -> None:
    site_id = await build_mall(tmp_path)
    for shop, fen in (("A1", 100_000), ("A2", 50_000)):
        page = await moves(await tenancy_id_of(shop, site_id), "electricity", None)
        assert [move.amount_fen for move in page.items] == [fen]
        assert page.next_cursor is None

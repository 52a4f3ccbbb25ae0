"""Leases by the database's clock: one owner, a new epoch each, renewals that wait for nobody."""

import asyncio

import asyncpg
import pytest

from server.models.database import pool, rows, transaction
from server.services.leases import (
    HOLDS,
    claim_leases,
    holds_lease,
    release_leases,
    renew_leases,
)
from server.services.site_import import ImportReport


async def gateways(count: int) -> None:
    """As many gateways as wanted beside the first."""
    for number in range(count - 1):
        await rows(
            pool(),
            "INSERT INTO gateway (site_id, code, link, settings, changed_at)"
            " SELECT site_id, $1, 'dtu', '{}', changed_at FROM gateway LIMIT 1",
            f"gw-x{number}",
        )
    await rows(
        pool(),
        "INSERT INTO gateway_lease (gateway_id, epoch) SELECT id, 0 FROM gateway"
        " ON CONFLICT DO NOTHING",
    )


async def meter_id() -> int:
    return int((await rows(pool(), "SELECT id FROM meter"))[0]["id"])


async def test_two_claim_at_once_and_share(mall: ImportReport) -> None:
    await gateways(10)
    first, second = await asyncio.gather(claim_leases("a", 5), claim_leases("b", 50))
    assert len(first) <= 5
    assert not first.keys() & second.keys()
    rest = await claim_leases("b", 50)
    assert len(first) + len(second) + len(rest) == 10
    assert await claim_leases("c", 50) == {}


async def test_a_collector_without_the_dtus_port_leaves_dtus_alone(mall: ImportReport) -> None:
    await gateways(3)
    assert len(await claim_leases("a", 50, without_links=["dtu"])) == 1
    assert len(await claim_leases("b", 50)) == 2


async def test_each_owner_has_an_epoch_of_its_own(mall: ImportReport) -> None:
    (first,) = (await claim_leases("a", 1)).items()
    await release_leases("a", [first[0]])
    assert await claim_leases("a", 1) == {first[0]: first[1] + 1}


async def test_a_lease_that_ran_out_is_not_renewed_but_claimed_anew(mall: ImportReport) -> None:
    epochs = await claim_leases("a", 1, held_s=0.05)
    assert await renew_leases("a", epochs, held_s=0.05) == set(epochs)
    await asyncio.sleep(0.1)
    assert await renew_leases("a", epochs) == set()
    assert (await claim_leases("b", 1)).keys() == epochs.keys()


async def test_renewing_waits_for_no_transaction_but_claiming_does(
    mall: ImportReport, database_url: str
) -> None:
    epochs = await claim_leases("a", 1, held_s=0.5)
    ((gateway_id, epoch),) = epochs.items()
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            assert await other.fetch(HOLDS, await meter_id(), epoch)
            async with asyncio.timeout(2):
                assert await renew_leases("a", epochs, held_s=0.05) == {gateway_id}
            await asyncio.sleep(0.1)
            assert await claim_leases("b", 1) == {}
        assert await claim_leases("b", 1) == {gateway_id: epoch + 1}
    finally:
        await other.close()


async def test_only_the_present_epoch_holds(mall: ImportReport) -> None:
    ((_, epoch),) = (await claim_leases("a", 1)).items()
    async with transaction() as connection:
        assert await holds_lease(connection, await meter_id(), epoch)
        assert not await holds_lease(connection, await meter_id(), epoch - 1)
        assert not await holds_lease(connection, await meter_id(), epoch + 1)


@pytest.mark.parametrize("prepares", [False, True])
async def test_an_owner_that_is_paused_in_a_transaction_stops_nobody(
    mall: ImportReport, database_url: str, prepares: bool
) -> None:
    ((_, epoch),) = (await claim_leases("a", 1, held_s=0.5)).items()
    paused = await asyncpg.connect(database_url, server_settings={"application_name": "a"})
    try:
        await paused.execute("BEGIN")
        assert await paused.fetch(HOLDS, await meter_id(), epoch)
        if prepares:
            await paused.prepare("SELECT 1")  # and never binds it
        assert await claim_leases("b", 1) == {}
        await asyncio.sleep(0.6)
        async with asyncio.timeout(1):
            while not await claim_leases("b", 1):  # noqa: ASYNC110  the signal takes its time
                await asyncio.sleep(0.01)
        pid = paused.get_server_pid()
        assert await rows(pool(), "SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid) == []
    finally:
        paused.terminate()


async def test_an_owner_that_is_late_but_in_no_transaction_keeps_its_connections(
    mall: ImportReport, database_url: str
) -> None:
    await claim_leases("a", 1, held_s=0)
    late = await asyncpg.connect(database_url, server_settings={"application_name": "a"})
    try:
        assert len(await claim_leases("b", 1)) == 1
        assert await late.fetchval("SELECT 1") == 1
    finally:
        await late.close()

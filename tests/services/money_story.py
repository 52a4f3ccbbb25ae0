"""One shop's story at a site of its own: whatever can happen to its money, twice if it can be."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from payments.contract import Method, Platform
from server.models import database
from server.models.database import Row, pool, rows
from server.services import top_ups
from server.services.balances import balances
from server.services.corrections import correct_due
from server.services.crediting import credit
from server.services.desk import take_desk_payment
from server.services.exchanges import ExchangeWish, record_exchange
from server.services.readings import NewReading, keep
from server.services.settlement import closable, close_next_days, settle_due
from server.services.site_file import SiteFileError
from server.services.site_import import import_site
from tests.fakes.payment_platform import FakeDirectory
from tests.services.money_back import give_back
from tests.services.money_site import (
    NOW,
    OPENED,
    OPENING_FEN,
    PROFILES,
    RATIOS,
    ROLLOVER_WH,
    Tariff,
    write_site,
)
from tests.services.plain_reference import Device, bill, local_day

_numbers = itertools.count(1)
Curve = list[tuple[datetime, int]]


@dataclass(frozen=True)
class Swap:
    """The second meter's device is replaced by another, with another transformer."""

    at: datetime
    final_wh: int
    first_wh: int
    ratio: int


class KilledError(Exception):
    """The process ended before its next statement."""


@contextmanager
def killed_before(statement: int) -> Iterator[None]:
    """Let everything end before the n-th statement from here on; what was begun is undone."""
    count = itertools.count(1)
    real = database._told_away

    @contextmanager
    def told_away() -> Iterator[None]:
        if next(count) >= statement:
            raise KilledError
        with real():
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_told_away", told_away)
        yield


@dataclass
class Story:
    """One tenancy, what is still to be read of it, and what was paid in."""

    site_id: int
    path: Path
    tenancy_id: int
    meter_ids: list[int]
    tariffs: list[Tariff]
    unread: list[NewReading]
    swap: Swap | None = None
    swap_known: bool = False
    kept: list[NewReading] = field(default_factory=list)
    directory: FakeDirectory = field(default_factory=FakeDirectory)
    paid_fen: int = OPENING_FEN

    async def act(self, name: str, number: int, killed: int) -> None:
        """One thing that happens, once or, where it was killed on the way, once more."""
        key = f"{self.tenancy_id}-{next(_numbers)}"
        step = getattr(self, f"_{name}")
        if killed:
            try:
                with killed_before(killed):
                    await step(number, key)
            except KilledError:
                await self.check_wallet(unknown=name in {"desk", "pay", "refund"})
        change_fen = await step(number, key)
        self.paid_fen += change_fen or 0
        await self.check_wallet()

    async def _read(self, percent: int, _key: str) -> None:
        """A share of all readings comes in, and some of before once more."""
        number = (len(self.unread) + len(self.kept)) * percent // 100
        batch = self.unread[:number]
        await keep(batch + self.kept[-3:], NOW)
        self.unread = self.unread[number:]
        self.kept += batch

    async def _lie(self, number: int, _key: str) -> None:
        """A meter says what cannot be."""
        if self.kept:
            true = self.kept[number % len(self.kept)]
            at = true.read_at + timedelta(seconds=30)
            wrong_wh = (true.register_wh + (number % 4 + 1) * 20_000_000) % ROLLOVER_WH
            report = await keep([NewReading(true.meter_id, at, wrong_wh, 0)], NOW)
            assert report.quarantined == report.kept

    async def _settle(self, _number: int, _key: str) -> None:
        await settle_due(NOW, only=self.tenancy_id)

    async def _correct(self, _number: int, _key: str) -> None:
        await correct_due(NOW, only=self.tenancy_id)

    async def _close(self, days: int, _key: str) -> None:
        """At most so many days close, if they are ready."""
        while await settle_due(NOW, only=self.tenancy_id):
            pass
        for _ in range(days):
            ready = await closable(NOW, 500)
            await close_next_days([one for one in ready if one == self.tenancy_id], NOW)

    async def _agree(self, _number: int, _key: str) -> None:
        """All that waits is done, and every day is what the readings so far make of it.

        A device that nobody knows of cannot be understood yet.
        """
        await self.finish()
        _, second = curves = self.curves(self.kept)
        if self.swap is None or self.swap_known or all(at < self.swap.at for at, _ in second):
            assert await self.days() == self.reference(curves)

    async def _swap(self, _number: int, _key: str) -> None:
        """Somebody tells of the exchange, mostly late."""
        if self.swap is None or self.swap_known:
            return
        wish = ExchangeWish(
            self.swap.at, self.swap.final_wh, self.swap.first_wh, "broken", self.swap.ratio
        )
        await record_exchange(self.meter_ids[1], wish, actor="wang", now=NOW)
        self.swap_known = True

    async def _import(self, number: int, _key: str) -> None:
        """The site file once more; or with a new version, which may not touch closed days."""
        wanted = list(self.tariffs)
        if number:
            valid_from = local_day(OPENED) + timedelta(days=number % 6)
            new = Tariff(valid_from, number * 10_007, self.tariffs[0].flat)
            wanted = [one for one in wanted if one.valid_from != valid_from] + [new]
        touched = await self._touched_by(wanted)
        self.write_site(wanted)
        try:
            await import_site(self.path, PROFILES, NOW)
        except SiteFileError:
            assert touched
        else:
            assert not touched
            self.tariffs = wanted

    async def _touched_by(self, wanted: Sequence[Tariff]) -> bool:
        """Whether a closed day would have another version."""
        found = await rows(
            pool(), "SELECT day FROM statement WHERE tenancy_id = $1", self.tenancy_id
        )

        def version(tariffs: Sequence[Tariff], day: date) -> Tariff:
            return max((t for t in tariffs if t.valid_from <= day), key=lambda t: t.valid_from)

        return any(version(wanted, x["day"]) != version(self.tariffs, x["day"]) for x in found)

    async def _together(self, number: int, key: str) -> None:
        """What comes in while workers are at it."""
        ends = await asyncio.gather(
            self._read(number, key),
            self._settle(0, key),
            self._close(2, key),
            self._correct(0, key),
            self._correct(0, key),
            return_exceptions=True,
        )
        for error in ends:
            if error is not None:
                raise error

    async def _desk(self, number: int, key: str) -> int:
        for _ in range(2):
            await take_desk_payment(
                self.tenancy_id,
                number,
                method="bank_transfer",
                receipt_no=f"R-{key}",
                paid_at=NOW,
                now=NOW,
            )
        return number

    async def _pay(self, number: int, key: str) -> int:
        wish = top_ups.TopUpOrder(
            tenancy_id=self.tenancy_id,
            amount_fen=number,
            method=Method.ALIPAY_QR,
            wallet="electricity",
            idempotency_key=key,
            user_id=None,
            payer_id=None,
            client_ip=None,
            public_url="http://mall.test",
        )
        view = await top_ups.order(wish, self.directory, NOW)
        assert view.payment is not None
        trade = self.directory.platforms[Platform.ALIPAY].pay(view.payment["out_trade_no"], NOW)
        for _ in range(2):
            await credit(self.site_id, Platform.ALIPAY, trade, NOW)
        return number

    async def _refund(self, number: int, key: str) -> int:
        """Of what is left, done or failed: the wallet's again."""
        return await give_back((self.site_id, self.directory), self.tenancy_id, number, key)

    async def finish(self) -> None:
        """What workers do until nothing waits any more."""
        while await settle_due(NOW, only=self.tenancy_id):
            pass
        while await correct_due(NOW, only=self.tenancy_id):
            pass
        waiting = await rows(
            pool(),
            "SELECT 1 AS n FROM settlement_due WHERE tenancy_id = $1"
            " UNION ALL SELECT 1 FROM correction_due WHERE tenancy_id = $1",
            self.tenancy_id,
        )
        assert waiting == []

    async def recompute(self) -> None:
        """Touch every day: what is kept and projected is what comes out anew."""
        before = await self.day_rows()
        await rows(
            pool(),
            "INSERT INTO settlement_due (tenancy_id, first_day, try_at) VALUES ($1, $2, $3)",
            self.tenancy_id,
            local_day(OPENED),
            NOW,
        )
        await self.finish()
        assert await self.day_rows() == before

    async def check_wallet(self, *, unknown: bool = False) -> None:
        """What is in the wallet is what was paid less what the newest statements say.

        Right after a kill it is not known whether a payment or refund got through.
        """
        owned = (await balances(pool(), [self.tenancy_id]))[self.tenancy_id]
        [books] = await rows(pool(), BOOKS, self.tenancy_id)
        assert owned.wallet_fen == books["replayed_fen"]
        assert owned.available_fen == owned.wallet_fen - books["open_fen"]
        if not unknown:
            assert owned.wallet_fen == self.paid_fen - books["charged_fen"]

    async def days(self) -> dict[date, tuple[int, int]]:
        """Energy and money of every day, closed or open, as the product has them."""
        found = await self.day_rows()
        assert len({one["day"] for one in found}) == len(found)
        return {one["day"]: (one["energy_wh"], one["amount_fen"]) for one in found}

    async def day_rows(self) -> list[Row]:
        """Each day's newest statement, or what is projected of it."""
        return await rows(pool(), DAYS, self.tenancy_id)

    def curves(self, readings: Sequence[NewReading]) -> list[Curve]:
        """The meters' readings apart."""
        return [
            [(one.read_at, one.register_wh) for one in readings if one.meter_id == meter_id]
            for meter_id in self.meter_ids
        ]

    def reference(self, paths: Sequence[Curve]) -> dict[date, tuple[int, int]]:
        """Every day worked out from these readings, and the exchange if it is known, alone."""
        meters = [
            [Device(ratio, ROLLOVER_WH, path)] for ratio, path in zip(RATIOS, paths, strict=True)
        ]
        if self.swap is not None and self.swap_known:
            at = self.swap.at
            old = [*(one for one in paths[1] if one[0] < at), (at, self.swap.final_wh)]
            new = [(at, self.swap.first_wh), *(one for one in paths[1] if one[0] > at)]
            meters[1] = [
                Device(RATIOS[1], ROLLOVER_WH, old),
                Device(self.swap.ratio, ROLLOVER_WH, new),
            ]
        times = [at for meter in meters for device in meter for at, _ in device.readings]
        if not times:
            return {}
        prices = [one.price() for one in self.tariffs]
        return bill(meters, prices, OPENED, local_day(max(times)))

    def write_site(self, tariffs: Sequence[Tariff]) -> None:
        """The site file with these versions of its tariff."""
        ratio = self.swap.ratio if self.swap is not None and self.swap_known else RATIOS[1]
        write_site(self.path, tariffs, ratio)


BOOKS = """
SELECT
    coalesce((SELECT sum(amount_fen) FROM (
        SELECT DISTINCT ON (day) amount_fen FROM statement WHERE tenancy_id = $1
        ORDER BY day, version DESC) AS newest), 0)::bigint AS charged_fen,
    coalesce((SELECT sum(amount_fen) FROM open_day WHERE tenancy_id = $1), 0)::bigint AS open_fen,
    coalesce((SELECT sum(CASE WHEN credit_account_id = account.id THEN amount_fen
                              ELSE -amount_fen END)
     FROM ledger_transfer WHERE account.id IN (credit_account_id, debit_account_id)), 0)::bigint
        AS replayed_fen
FROM account WHERE tenancy_id = $1 AND kind = 'electricity_wallet'
"""
DAYS = """
(SELECT DISTINCT ON (day) day, energy_wh, amount_fen, document, version FROM statement
 WHERE tenancy_id = $1 ORDER BY day, version DESC)
UNION ALL
SELECT day, energy_wh, amount_fen, to_jsonb(open_day)
       - ARRAY['id', 'computed_at', 'meter_ids', 'read_ats', 'registers_wh'], 0
FROM open_day WHERE tenancy_id = $1
ORDER BY day
"""


async def open_story(
    folder: Path,
    paths: Sequence[Curve],
    order: Sequence[int],
    *,
    flat: bool,
    swap: Swap | None,
) -> Story:
    """A new site; its readings will come in this order."""
    path = folder / f"s{next(_numbers)}.toml"
    tariffs = [Tariff(date(2026, 1, 1), 1_500_000, flat)]
    write_site(path, tariffs, RATIOS[1])
    site_id = (await import_site(path, PROFILES, OPENED)).site_id
    meters = await rows(pool(), "SELECT id FROM meter WHERE site_id = $1 ORDER BY code", site_id)
    [tenancy] = await rows(pool(), "SELECT id FROM tenancy WHERE site_id = $1", site_id)
    readings = [
        NewReading(meter["id"], at, register_wh, 0)
        for meter, curve in zip(meters, paths, strict=True)
        for at, register_wh in curve
    ]
    numbers = sorted(range(len(readings)), key=lambda n: (order[n % len(order)], n))
    return Story(
        site_id=site_id,
        path=path,
        tenancy_id=tenancy["id"],
        meter_ids=[one["id"] for one in meters],
        tariffs=tariffs,
        unread=[readings[number] for number in numbers],
        swap=swap,
    )

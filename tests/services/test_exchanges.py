"""An exchanged meter: energy by both devices, readings judged again, days settled anew."""

import asyncio
import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.core.errors import ConflictError, InvalidInputError, NotFoundError
from server.models.database import from_json, pool, rows
from server.services.audit import audit
from server.services.corrections import correct_due
from server.services.exchanges import ExchangeWish, find_meter, record_exchange
from server.services.readings import NewFinding, NewReading, keep, record_findings
from server.services.settlement import close_days, settle_due
from server.services.site_file import SiteFileError
from server.services.site_import import ImportReport, import_site
from tests.fakes.site_text import change
from tests.services.conftest import NOW, PROFILES

LATE = NOW + timedelta(hours=40)
WISH = ExchangeWish(NOW + timedelta(hours=2), 7_000, 100, "换新表")
_codes = itertools.count(1)


def hour(number: float) -> datetime:
    """So many hours after the import, at 10:00 in Shanghai."""
    return NOW + timedelta(hours=number)


async def meter_id_of(site: str = "demo") -> int:
    return await find_meter(None, "M-1", site)


async def keep_at(*readings: tuple[float, int], meter_id: int | None = None) -> list[str | None]:
    """Keep them one by one; why each was held apart."""
    meter_id = meter_id or await meter_id_of()
    for at, register_wh in readings:
        await keep([NewReading(meter_id, hour(at), register_wh, 0)], LATE)
    return [await verdict_at(at, meter_id) for at, _ in readings]


async def verdict_at(at: float, meter_id: int) -> str | None:
    sql = "SELECT reason FROM reading WHERE meter_id = $1 AND read_at = $2"
    found = await rows(pool(), sql, meter_id, hour(at))
    return None if found[0]["reason"] is None else str(found[0]["reason"])


async def exchange(wish: ExchangeWish = WISH, *, meter_id: int | None = None) -> int:
    meter_id = meter_id or await meter_id_of()
    made = await record_exchange(meter_id, wish, actor="engineer", now=LATE)
    return made.readings_trusted


async def energies() -> list[int]:
    """Watt-hours of each day, closed or open."""
    await settle_due(LATE)
    while await correct_due(LATE):
        pass
    found = await rows(
        pool(),
        "SELECT DISTINCT ON (day) day, energy_wh FROM (SELECT day, version, energy_wh"
        " FROM statement UNION ALL SELECT day, 0, energy_wh FROM open_day) AS used"
        " ORDER BY day, version DESC",
    )
    return [one["energy_wh"] for one in found]


OLD, NEW = ((0, 5_000), (1, 6_000)), ((3, 1_100), (4, 2_100))


@pytest.mark.parametrize("known", [0, 1, 2, 3, 4])
async def test_an_exchange_may_be_recorded_at_any_time(mall: ImportReport, known: int) -> None:
    """Before or after the new device is read; what was held apart counts then."""
    readings = (*OLD, *NEW)
    for number, one in enumerate(readings):
        if number == known:
            await exchange()
        await keep_at(one)
    if known == len(readings):
        assert await exchange() == 2
    meter_id = await meter_id_of()
    assert [await verdict_at(at, meter_id) for at, _ in readings] == [None] * 4
    assert await energies() == [2_000 + 2_000]


async def test_a_reading_that_an_exchange_explains_ends_its_finding(mall: ImportReport) -> None:
    assert await keep_at(*OLD, *NEW) == [None, None, "backward", "backward"]
    status = "SELECT register_wh, finding FROM meter_status"
    assert await rows(pool(), status) == [
        {"register_wh": 6_000, "finding": "quarantined: backward"}
    ]
    await exchange()
    assert await rows(pool(), status) == [{"register_wh": 2_100, "finding": None}]


async def test_a_new_device_names_itself(mall: ImportReport) -> None:
    meter_id = await meter_id_of()
    await rows(pool(), "UPDATE meter SET identity = '2026'")
    await record_findings([NewFinding(meter_id, 0, "identity_changed: 2026, now 2027")], NOW)
    await exchange()
    found = await rows(pool(), "SELECT identity, finding FROM meter, meter_status")
    assert found == [{"identity": None, "finding": None}]


async def test_another_finding_stays(mall: ImportReport) -> None:
    await record_findings([NewFinding(await meter_id_of(), 0, "no_answer: mute")], NOW)
    await exchange()
    assert await rows(pool(), "SELECT finding FROM meter_status") == [
        {"finding": "no_answer: mute"}
    ]


async def test_an_exchange_is_in_the_log(mall: ImportReport) -> None:
    await exchange(replace(WISH, transformer_ratio=40))
    (act,) = await rows(pool(), "SELECT * FROM manager_act WHERE act = 'meter.exchange'")
    assert (act["actor"], act["subject"], act["reason"]) == ("engineer", "meter:M-1", "换新表")
    assert from_json(act["facts"]) == {
        "at": WISH.at.isoformat(),
        "final_wh": 7_000,
        "first_wh": 100,
        "ratios": [1, 40],
    }


REFUSED = [
    (replace(WISH, at=LATE + timedelta(seconds=1)), "at: lies in the future"),
    (replace(WISH, at=datetime.min.replace(tzinfo=NOW.tzinfo)), "at: lies in the future, or"),
    (replace(WISH, at=hour(1)), "at: not after the exchange of"),
    (replace(WISH, final_wh=5_999), "final_wh: cannot follow 6000 Wh .*backward"),
    (replace(WISH, final_wh=500_000), "final_wh: cannot follow 6000 Wh .*jump"),
    (replace(WISH, final_wh=10**9), "final_wh: the old register shows less"),
    (replace(WISH, first_wh=10**9), "first_wh: the new register shows less"),
    (replace(WISH, first_wh=-1), "first_wh"),
    (replace(WISH, transformer_ratio=0), "transformer_ratio"),
    (replace(WISH, transformer_ratio=100_001), "transformer_ratio"),
    (replace(WISH, at=hour(3)), "final_wh: cannot follow 7500 Wh"),
]


async def test_an_exchange_that_cannot_be_is_refused_and_changes_nothing(
    mall: ImportReport,
) -> None:
    await keep_at((0, 5_000))
    await exchange(ExchangeWish(hour(1), 5_500, 6_000, "first"))
    await keep_at((1.5, 6_000), (2.5, 7_500))
    before = await rows(pool(), "SELECT * FROM meter_exchange")
    for wish, fault in REFUSED:
        with pytest.raises(InvalidInputError, match=fault):
            await exchange(wish)
    with pytest.raises(ConflictError, match=r"at: the reading of 7500 Wh at .* was trusted"):
        await exchange(
            replace(WISH, first_wh=8_000)
        )  # two hours after the import, and the old one was read half an hour later
    with pytest.raises(NotFoundError):
        await exchange(meter_id=99)
    assert await rows(pool(), "SELECT * FROM meter_exchange") == before
    assert await verdict_at(2.5, await meter_id_of()) is None


async def test_the_same_exchange_twice_at_once_is_recorded_once(mall: ImportReport) -> None:
    await keep_at(*OLD)
    ended = await asyncio.gather(*(exchange() for _ in range(4)), return_exceptions=True)
    refused = [one for one in ended if isinstance(one, InvalidInputError)]
    assert (len(refused), ended.count(0)) == (3, 1)


async def test_each_device_counts_by_its_ratio(mall: ImportReport, site_path: Path) -> None:
    """The file says the new one's; the old one's cannot be changed any more."""
    await keep_at(*OLD)
    await exchange(replace(WISH, transformer_ratio=40))
    await keep_at(*NEW)
    assert await energies() == [2_000 + 40 * 2_000]
    with pytest.raises(SiteFileError, match=r"meter\[0\]\.transformer_ratio: is 40"):
        await import_site(site_path, PROFILES, LATE)
    content = site_path.read_text(encoding="utf-8")
    site_path.write_text(content.replace("unit = 1", "unit = 1\ntransformer_ratio = 40"), "utf-8")
    assert (await import_site(site_path, PROFILES, LATE)).updated == {}


async def test_a_file_may_bring_the_new_ratio_before_the_new_device_is_read(
    mall: ImportReport, site_path: Path
) -> None:
    await keep_at(*OLD)
    await exchange()
    content = site_path.read_text(encoding="utf-8")
    site_path.write_text(content.replace("unit = 1", "unit = 1\ntransformer_ratio = 40"), "utf-8")
    assert (await import_site(site_path, PROFILES, LATE)).updated == {"meter": 1}
    await keep_at(*NEW)
    assert await energies() == [2_000 + 40 * 2_000]


async def test_a_file_from_before_an_exchange_brings_nothing_back(
    mall: ImportReport, site_path: Path
) -> None:
    """The new device is not read yet; its ratio and first register are known all the same."""
    await keep_at(*OLD)
    await exchange(replace(WISH, transformer_ratio=40))
    with pytest.raises(SiteFileError, match=r"transformer_ratio: is 40 since the exchange of 2026"):
        await import_site(site_path, PROFILES, LATE)
    change(site_path, ("unit = 1", "unit = 1\ntransformer_ratio = 40"))
    [(profile, facts)] = PROFILES.items()
    for rollover_wh, fits in ((WISH.first_wh, False), (WISH.first_wh + 1, True)):
        other = {profile: replace(facts, rollover_wh=rollover_wh)}
        if fits:
            assert (await import_site(site_path, other, LATE)).updated == {"meter": 1}
        else:
            with pytest.raises(SiteFileError, match="went beyond 100 Wh already"):
                await import_site(site_path, other, LATE)


async def test_two_exchanges_a_day_and_one_at_midnight(mall: ImportReport) -> None:
    """The days' edges are the exchange's word, too: nothing is awaited that it has said."""
    await keep_at(*OLD)
    await exchange()
    await keep_at(*NEW)
    await exchange(ExchangeWish(hour(5), 2_500, 9_000, "again"))
    await exchange(ExchangeWish(hour(14), 9_900, 10, "at midnight"))
    await keep_at((15, 60))
    assert await energies() == [2_000 + 2_400 + 900, 50]


async def test_at_its_very_instant_only_the_exchange_counts(mall: ImportReport) -> None:
    assert await keep_at(*OLD, (2, 6_900)) == [None] * 3
    assert await exchange() == 0
    await keep_at(*NEW)
    assert await energies() == [4_000]


async def test_a_late_reading_of_the_old_device_is_judged_beside_it(mall: ImportReport) -> None:
    await keep_at(*OLD, *NEW)
    await exchange()
    assert await keep_at((1.5, 6_900), (1.7, 7_001), (2.5, 600), (1.9, 600)) == [
        None,
        "contradicts_later",
        None,
        "backward",
    ]


async def test_a_bad_reading_is_not_explained_by_any_exchange(mall: ImportReport) -> None:
    await keep_at(*OLD, (2.5, 800_000), (2.6, 0), *NEW)
    assert await exchange() == 2
    assert await verdict_at(2.5, await meter_id_of()) == "jump"
    assert await verdict_at(2.6, await meter_id_of()) == "zero"


async def test_a_closed_day_before_an_exchange_is_what_it_was(mall: ImportReport) -> None:
    hours = range(17)
    await keep_at(*((at, 5_000 + 1_000 * at) for at in hours))
    await settle_due(LATE)
    assert await close_days(LATE) == 1
    assert await keep_at((17, 300), (18, 1_300)) == ["backward", "backward"]
    await exchange(ExchangeWish(hour(16.5), 21_500, 0, "late"))
    assert await energies() == [14_000, 2_500 + 1_300]
    assert (await audit(lambda _: None)).violations == []
    assert await rows(pool(), "SELECT version FROM statement") == [{"version": 1}]


async def test_an_exchange_in_a_closed_day_gives_it_another_version(mall: ImportReport) -> None:
    """Nobody had read the meter around its exchange: its readings happened to go on."""
    await keep_at((0, 5_000), (13, 18_000), (15, 20_000))
    await settle_due(LATE)
    await rows(pool(), "UPDATE site SET close_after_days = 0, rules_version = 0")
    assert await close_days(LATE) == 1
    assert await energies() == [14_000, 1_000]
    await exchange(ExchangeWish(hour(6), 5_500, 17_500, "told late"))
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 1)
    assert await energies() == [500 + 500 + 1_000, 1_000]
    report = await audit(lambda _: None)
    assert (report.violations, report.awaiting_correction) == ([], 0)
    (kept,) = await rows(pool(), "SELECT document FROM statement WHERE version = 2")
    old, new = from_json(kept["document"])["readings"]
    assert (old["ended_by_exchange"], new["began_by_exchange"]) == (True, True)
    assert (old["last_register_wh"], new["first_register_wh"]) == (5_500, 17_500)


async def test_a_forged_exchange_is_found(mall: ImportReport) -> None:
    await keep_at(*OLD)
    await exchange()
    await keep_at(*((at, 100 + 1_000 * at) for at in range(3, 18)))
    await settle_due(LATE)
    while await close_days(LATE):
        pass
    assert (await audit(lambda _: None)).violations == []
    await rows(pool(), "ALTER TABLE meter_exchange DISABLE TRIGGER USER")
    await rows(pool(), "UPDATE meter_exchange SET final_wh = final_wh - 1")
    await rows(pool(), "ALTER TABLE meter_exchange ENABLE TRIGGER USER")  # the next test's, too
    assert [one.rule for one in (await audit(lambda _: None)).violations] == ["statement_rated"]


async def test_a_code_of_two_malls_needs_its_site(mall: ImportReport, site_path: Path) -> None:
    content = site_path.read_text(encoding="utf-8")
    site_path.write_text(content.replace('code = "demo"', 'code = "other"'), encoding="utf-8")
    other = (await import_site(site_path, PROFILES, NOW)).site_id
    with pytest.raises(ConflictError) as caught:
        await find_meter(None, "M-1", None)
    assert caught.value.code == "site_needed"
    theirs = await find_meter(None, "M-1", "other")
    assert theirs == await find_meter(other, "M-1", None) != await meter_id_of()
    with pytest.raises(NotFoundError):
        await find_meter(other, "M-1", "demo")
    with pytest.raises(NotFoundError):
        await find_meter(None, "M-9", None)


TRUE_READINGS = [(0, 5_000), (0.5, 5_400), (1, 6_000), (1.5, 6_800), *NEW, (5, 2_100), (6, 3_000)]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(TRUE_READINGS[2:]),
    again=st.lists(st.sampled_from(TRUE_READINGS), max_size=3),
    recorded=st.integers(0, 6),
)
async def test_any_order_of_readings_and_exchange_is_the_same_day(
    mall: ImportReport,
    site_path: Path,
    order: list[tuple[float, int]],
    again: list[tuple[float, int]],
    recorded: int,
) -> None:
    """After the first two readings of the old device, each in a mall of its own."""
    code = f"s{next(_codes)}"
    content = site_path.read_text(encoding="utf-8").replace('code = "demo"', f'code = "{code}"')
    path = site_path.with_name(f"{code}.toml")
    path.write_text(content, encoding="utf-8")
    site_id = (await import_site(path, PROFILES, NOW)).site_id
    meter_id = await find_meter(site_id, "M-1", None)
    await keep_at(*TRUE_READINGS[:2], meter_id=meter_id)
    await keep_at(*order[:recorded], meter_id=meter_id)
    await exchange(meter_id=meter_id)
    await keep_at(*order[recorded:], *again, meter_id=meter_id)
    await settle_due(LATE)
    found = await rows(pool(), "SELECT energy_wh FROM open_day WHERE site_id = $1", site_id)
    assert found == [{"energy_wh": 2_000 + 2_900}]

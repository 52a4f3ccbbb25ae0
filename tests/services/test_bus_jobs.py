"""Asking a meter from anywhere: refused when nobody owns it, taken once an epoch, answered once."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from server.core.errors import NotFoundError
from server.models.database import pool, rows
from server.services import bus_jobs
from server.services.bus_jobs import (
    AmbiguousCodeError,
    JobFailedError,
    JobKind,
    NoCollectorError,
    ask_meter,
    find_meter,
    finish_job,
    take_jobs,
    wait_for_job,
)
from server.services.leases import claim_leases
from server.services.site_import import ImportReport
from server.services.wakeups import Wakeups
from tests.fakes.empty_site import empty_site

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)


async def ask(now: datetime = NOW) -> tuple[int, int]:
    meter_id, _ = await find_meter("M-1", None)
    return await ask_meter(meter_id, JobKind.READ, requested_by="t", now=now, timeout_s=10)


async def test_nobody_owns_the_gateway(mall: ImportReport) -> None:
    with pytest.raises(NoCollectorError):
        await ask()


async def test_a_job_is_taken_once_an_epoch_and_again_by_the_next_owner(mall: ImportReport) -> None:
    epochs = await claim_leases("a", 1)
    job_id, gateway_id = await ask()
    assert [one.job_id for one in await take_jobs(epochs, NOW)] == [job_id]
    assert await take_jobs(epochs, NOW) == []
    assert [one.job_id for one in await take_jobs({gateway_id: 2}, NOW)] == [job_id]


@pytest.mark.parametrize(
    ("sql", "after_s", "taken"),
    [
        pytest.param("", 9, 1, id="in time"),
        pytest.param("", 10, 0, id="after its deadline"),
        pytest.param("UPDATE bus_job SET finished_at = now()", 1, 0, id="finished"),
        pytest.param("UPDATE bus_job SET kind = 'scan'", 1, 0, id="for newer collectors"),
    ],
)
async def test_what_is_taken(mall: ImportReport, sql: str, after_s: int, taken: int) -> None:
    epochs = await claim_leases("a", 1)
    await ask()
    if sql:
        await rows(pool(), sql)
    assert len(await take_jobs(epochs, NOW + timedelta(seconds=after_s))) == taken
    assert await take_jobs({999: 1}, NOW) == []


@pytest.mark.parametrize(
    ("ends", "result", "error"),
    [
        ([({"code": "M-1"}, None)], {"code": "M-1"}, None),
        ([(None, "meter_mute: silent")], None, "meter_mute: silent"),
        ([({"code": "M-1"}, None), (None, "late")], {"code": "M-1"}, None),
        ([], None, "no answer in time"),
    ],
    ids=["answered", "failed", "the first end stays", "nobody"],
)
async def test_how_a_job_ends(
    mall: ImportReport,
    ends: list[tuple[Mapping[str, object] | None, str | None]],
    result: Mapping[str, object] | None,
    error: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_jobs, "LOOK_S", 0.05)
    await claim_leases("a", 1)
    job_id, gateway_id = await ask()
    for end, text in ends:
        await finish_job(job_id, NOW, result=end, error=text)
    if error is None:
        assert await wait_for_job(job_id, gateway_id, Wakeups(None), 1) == result
    else:
        with pytest.raises(JobFailedError, match=error):
            await wait_for_job(job_id, gateway_id, Wakeups(None), 1)


async def test_a_full_queue_takes_no_more(
    mall: ImportReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_jobs, "JOBS_OPEN_MAX", 2)
    await claim_leases("a", 1)
    await ask()
    await ask()
    with pytest.raises(NoCollectorError):
        await ask()
    await ask(NOW + timedelta(seconds=11))  # those before have passed their deadlines


async def test_a_code_names_one_meter(mall: ImportReport) -> None:
    await empty_site("other")
    await rows(
        pool(),
        "INSERT INTO meter (site_id, code, gateway_id, unit, profile, transformer_ratio, role,"
        " rollover_wh, has_relay) SELECT site.id, meter.code, gateway_id, 99, profile, 1, role,"
        " rollover_wh, has_relay FROM meter, site WHERE site.code = 'other'",
    )
    with pytest.raises(AmbiguousCodeError):
        await find_meter("M-1", None)
    assert (await find_meter("M-1", "demo"))[1] == mall.site_id
    with pytest.raises(NotFoundError):
        await find_meter("M-9", None)

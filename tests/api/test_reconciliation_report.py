"""The workbook of reconciled days: each cell of its kind, bounded, for who may see money."""

import io
import re
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from typing import Any

import pytest
import pytest_asyncio

from miniprogram_api.openapi import describe
from server.handlers import admin_reconciliation
from tests.api.test_admin_money import People
from tests.fakes.town import AgreesWithDocument
from tests.http import http_client
from tests.pages.mall import Mall, lasting_mall, mall, mall_port, staged
from tests.pages.reconciled import EVIL, reconciled

__all__ = ["lasting_mall", "mall", "mall_port", "staged"]  # fixtures
REPORT = "/reports/reconciliation"


@pytest_asyncio.fixture
async def people(mall: Mall) -> AsyncIterator[People]:
    """A mall with a manager of each role."""
    check: Callable[..., Any] = AgreesWithDocument(describe(mall.app, "test"))
    hooks = {"response": [check]}
    async with http_client(base_url=mall.url, event_hooks=hooks) as client:
        yield People(mall, client)


def asked(since: date, days: int = 1, more: str = "") -> str:
    return f"{REPORT}?from={since}&to={since + timedelta(days=days)}{more}"


async def sheets(people: People, path: str) -> list[str]:
    """The XML of each sheet."""
    answer = await people.send("finance", "GET", path)
    assert answer.status_code == 200, answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    return [archive.read(f"xl/worksheets/sheet{n}.xml").decode() for n in (1, 2, 3)]


def texts(sheet: str) -> list[str]:
    return re.findall(r"<t[^>]*>([^<]*)</t>", sheet)


async def test_days_differences_and_lines_each_have_a_sheet(mall: Mall, people: People) -> None:
    day = await reconciled(mall)
    days, differences, lines = await sheets(people, asked(day, 2))
    assert texts(days)[:2] == ["日期", "平台"]
    assert "有差异" in texts(days)
    assert ">95.59<" in days  # the bill's four payments, as a number of yuan
    assert ">80.05<" in days
    assert ">15.54<" in days  # what the two strangers brought
    assert texts(differences).count("我方缺") == 3
    assert texts(differences).count("待人工处理") == 2
    assert texts(differences).count("已自动处理") == 1
    assert texts(lines).count("相符") == 2
    assert texts(lines).count("不符") == 2
    assert texts(lines).count("A101") == 2
    assert ">30.05<" in lines
    assert ">0.30<" in lines  # the fee


async def test_no_text_becomes_a_formula(mall: Mall, people: People) -> None:
    day = await reconciled(mall)
    for sheet in (await sheets(people, asked(day)))[1:]:
        assert EVIL in texts(sheet)
        assert "@SUM(1)" in texts(sheet)
        assert "<f>" not in sheet
        assert "<hyperlink" not in sheet


async def test_it_is_bounded_and_for_who_may_see_money(
    mall: Mall, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = await reconciled(mall)
    for who, status in (("engineer", 403), ("service", 403), ("read_only", 403), ("owner", 200)):
        assert (await people.send(who, "GET", asked(day))).status_code == status
    for path in (
        REPORT,
        f"{REPORT}?from={day}",
        asked(day, 0),
        asked(day, -1),
        asked(day, 32),
        f"{REPORT}?from=2026-02-30&to=2026-03-01",
    ):
        assert (await people.send("finance", "GET", path)).status_code == 422, path
    assert (await people.send("finance", "GET", asked(day, 31))).status_code == 200
    assert (await people.send("finance", "GET", asked(day, 1, "&site=none"))).status_code == 404
    monkeypatch.setattr(admin_reconciliation, "LINES_MAX", 3)
    answer = await people.send("finance", "GET", asked(day))
    assert (answer.status_code, "fewer days" in answer.json()["detail"]) == (422, True)


async def test_a_manager_of_one_mall_sees_its_own_lines(mall: Mall, people: People) -> None:
    day = await reconciled(mall)
    await mall.bind_manager("finance", to="elsewhere")
    for sheet in await sheets(people, asked(day)):
        assert "merchant-wechat" not in texts(sheet)

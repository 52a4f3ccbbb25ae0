"""Commands beside a running product find its servers, and the demo's platforms."""

import os
from pathlib import Path

import pytest

from server.cli import main
from server.local.running import RunningUrls, forget_running, running_urls, write_running
from server.settings import load_settings

DATABASE = "postgres://mall@127.0.0.1/mall"
SANDBOX = ("http://127.0.0.1:9", "http://127.0.0.1:9/gateway.do")


@pytest.mark.parametrize(
    ("platforms", "found"),
    [
        ((), ("https://api.mch.weixin.qq.com", "https://openapi.alipay.com/gateway.do")),
        (SANDBOX, SANDBOX),
    ],
)
def test_a_command_speaks_with_the_platforms_of_the_running_product(
    tmp_path: Path, platforms: tuple[str, ...], found: tuple[str, str]
) -> None:
    write_running(tmp_path, RunningUrls(os.getpid(), DATABASE, None, *platforms))
    urls = running_urls(tmp_path)
    assert urls is not None
    settings = urls.applied_to(load_settings({}))
    assert (settings.wechat_pay_url, settings.alipay_gateway_url) == found
    assert settings.database_url == DATABASE
    forget_running(tmp_path)
    assert running_urls(tmp_path) is None


@pytest.mark.parametrize("day", ["21.5.2026", "2026-02-30", ""])
def test_a_date_that_is_none_is_not_reconciled(
    day: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reconcile", day])
    assert f"a day is YYYY-MM-DD, not {day!r}" in capsys.readouterr().err

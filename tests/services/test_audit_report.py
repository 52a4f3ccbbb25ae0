"""What an audit says it looked at, and how it is asked for a part."""

from datetime import date

import pytest

from server.cli import main
from server.services.audit_report import NAMED_MAX, AuditReport

DAY = date(2026, 5, 21)


@pytest.mark.parametrize(
    ("since", "until", "looked_at"),
    [
        (None, None, "checked: 3 wallets"),
        (DAY, DAY, "checked: 3 wallets (of 2026-05-21, and all wallets)"),
        (DAY, None, "checked: 3 wallets (since 2026-05-21, and all wallets)"),
    ],
)
def test_a_report_says_what_it_looked_at(
    since: date | None, until: date | None, looked_at: str
) -> None:
    report = AuditReport(since=since, until=until, checked={"wallets": 3}, awaiting_correction=1)
    proved = "the books are proved: 0 violations, 1 days await a correction"
    assert report.summary().splitlines() == [looked_at, proved]


def test_beyond_a_thousand_violations_are_only_counted() -> None:
    report = AuditReport()
    for number in range(NAMED_MAX + 2):
        report.blame("rule", f"{number}", "is wrong")
    assert (len(report.violations), report.violation_count) == (NAMED_MAX, NAMED_MAX + 2)
    assert report.summary().endswith("do not agree: 1002 violations, 0 days await a correction")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--day", "21.5.2026"], "a day is YYYY-MM-DD, not '21.5.2026'"),
        (["--day", "2026-05-21", "--since", "2026-05-01"], "not allowed with argument --day"),
    ],
)
def test_a_day_that_is_none_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["audit", *words])
    assert said in capsys.readouterr().err

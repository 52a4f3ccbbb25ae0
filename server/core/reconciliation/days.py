"""The platforms' days: Chinese ones, whatever a mall's zone; which of them are to be compared."""

from datetime import UTC, date, datetime, time, timedelta, timezone

CHINA = timezone(timedelta(hours=8))
MADE_BY = time(10, 0)  # on the next day; Alipay's is made by nine
# WeChat Pay gives out the bills of three months, Alipay those since 2016.
DAYS_BACK = 60
LOOK_AGAIN_AFTER = timedelta(hours=20)  # at what differs, and once at every bill: it may change


def bill_day(at: datetime) -> date:
    """The day on whose bill a moment stands."""
    return at.astimezone(CHINA).date()


def edges(day: date) -> tuple[datetime, datetime]:
    """From when until when it lasts."""
    begin = datetime.combine(day, time(), CHINA).astimezone(UTC)
    return begin, begin + timedelta(days=1)


def made_by(day: date) -> datetime:
    """When its bill is there, as a rule."""
    return datetime.combine(day + timedelta(days=1), MADE_BY, CHINA).astimezone(UTC)


def is_over(day: date, now: datetime) -> bool:
    """Whether it has ended in China."""
    return edges(day)[1] <= now


def days_with_bills(first_order_at: datetime, now: datetime) -> list[date]:
    """Days since the first order whose bills are there now, oldest first."""
    today = bill_day(now)
    newest = today - timedelta(days=1 if made_by(today - timedelta(days=1)) <= now else 2)
    oldest = max(bill_day(first_order_at), today - timedelta(days=DAYS_BACK))
    return [oldest + timedelta(days=n) for n in range((newest - oldest).days + 1)]


def is_due(
    day: date,
    *,
    fetched_at: datetime | None,
    is_finished: bool,
    differs: bool,
    now: datetime,
) -> bool:
    """Whether to compare a day now: it is not done, still differs, or was not looked at twice."""
    if not is_finished or fetched_at is None:
        return True
    if differs:
        return fetched_at + LOOK_AGAIN_AFTER <= now
    second_look = made_by(day + timedelta(days=1))
    return fetched_at < second_look <= now

"""When the price changes: every meter is also read right after each such instant (decision 5)."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from server.core.calendar import day_bounds, local_day
from server.core.errors import NotFoundError
from server.core.tariff.rating import boundaries
from server.core.tariff.versions import TariffVersion, version_on
from server.models.database import pool
from server.services.site_rules import SiteRules, site_rules

ONE_DAY = timedelta(days=1)
Place = tuple[int, str | None]  # a site, and a tariff of its (None: only its days count)


class BoundaryBook:
    """The boundaries of today and tomorrow, by site and tariff."""

    def __init__(self) -> None:
        self._instants: Mapping[Place, tuple[datetime, ...]] = {}

    def next_after(self, place: Place, now: datetime) -> datetime | None:
        """The next boundary; None where none is known yet."""
        instants = self._instants.get(place, ())
        at = bisect_right(instants, now)
        return instants[at] if at < len(instants) else None

    async def refresh(self, places: Iterable[Place], now: datetime) -> bool:
        """Write the book anew; whether anything in it has changed."""
        written: dict[Place, tuple[datetime, ...]] = {}
        for place in set(places):
            site_id, tariff_code = place
            written[place] = _instants(await site_rules(pool(), site_id), tariff_code, now)
        changed = written != self._instants
        self._instants = written
        return changed


def _instants(rules: SiteRules, tariff_code: str | None, now: datetime) -> tuple[datetime, ...]:
    versions = rules.tariffs.get(tariff_code or "", ())
    today = local_day(now, rules.zone)
    found: set[datetime] = set()
    for day in (today, today + ONE_DAY):
        found.update(day_bounds(day, rules.zone))
        try:
            version: TariffVersion = version_on(versions, day)
        except NotFoundError:
            continue  # not priced yet: only its ends count
        found.update(boundaries(version, day, rules.zone, rules.calendar))
    return tuple(sorted(found))

"""Every site's payment platforms, as server/app.py hands them to the doors and the workers."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

import payments.alipay.client
import payments.alipay.config
import payments.wechat.client
import payments.wechat.config
from payments.contract import MerchantConfigError, Method, PaymentPlatform, Platform
from payments.sandbox.keys import ALIPAY_APP_ID, WECHAT_MCHID
from server.models.database import from_json, pool, rows
from server.settings import Settings

log = structlog.get_logger(__name__)

KEPT_S = 2.0  # how soon an import is taken up
RETIRED_S = 60.0  # longer than any call: who has an old client still ends it
SANDBOX_MERCHANTS = frozenset({WECHAT_MCHID, ALIPAY_APP_ID})
MERCHANTS = """
SELECT id, platform, settings,
       CASE platform WHEN 'wechat' THEN merchant_id ELSE app_id END AS app_or_mch_id
FROM merchant WHERE site_id = $1
"""


@dataclass(frozen=True, slots=True)
class _Built:
    """What became of a configuration; `platform` None: it cannot be used, and that was said."""

    fingerprint: str
    platform: PaymentPlatform | None


@dataclass(frozen=True, slots=True)
class _Site:
    """A site's platforms as they were at `looked_at` (monotonic)."""

    looked_at: float
    platforms: Mapping[str, PaymentPlatform]


class Merchants:
    """A directory of platforms: built once a configuration, renewed after an import.

    Keys are read and clients made in a thread; a client that a newer one replaces is closed once
    nobody can be using it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sites: dict[int, _Site] = {}
        self._built: dict[int, _Built] = {}
        self._retired: list[tuple[float, PaymentPlatform]] = []
        self._looking = asyncio.Lock()

    async def of_site(self, site_id: int, platform: Platform) -> PaymentPlatform | None:
        """The site's merchant at a platform; None without one, or with unusable keys."""
        return (await self._platforms(site_id)).get(platform.value)

    async def methods(self, site_id: int) -> Sequence[Method]:
        """All methods by which this site can be paid."""
        platforms = (await self._platforms(site_id)).values()
        return [method for method in Method if any(method in one.methods for one in platforms)]

    async def aclose(self) -> None:
        """Close every platform's connections."""
        kept = [one.platform for one in self._built.values() if one.platform is not None]
        for platform in (*kept, *(platform for _, platform in self._retired)):
            await platform.aclose()

    async def _platforms(self, site_id: int) -> Mapping[str, PaymentPlatform]:
        if (fresh := self._fresh(site_id)) is not None:
            return fresh
        async with self._looking:  # who comes meanwhile waits, and finds what was found
            if (fresh := self._fresh(site_id)) is not None:
                return fresh
            found = {}
            for merchant in await rows(pool(), MERCHANTS, site_id):
                if (platform := await self._renewed(merchant)) is not None:
                    found[merchant["platform"]] = platform
            self._sites[site_id] = _Site(time.monotonic(), found)
            await self._close_retired()
            return found

    def _fresh(self, site_id: int) -> Mapping[str, PaymentPlatform] | None:
        site = self._sites.get(site_id)
        young = site is not None and time.monotonic() - site.looked_at <= KEPT_S
        return site.platforms if site is not None and young else None

    async def _renewed(self, merchant: Mapping[str, Any]) -> PaymentPlatform | None:
        """The platform of a merchant as it is configured now."""
        if self._settings.is_production and merchant["app_or_mch_id"] in SANDBOX_MERCHANTS:
            return None  # imported while this was a playground
        settings: dict[str, object] = from_json(merchant["settings"])
        fingerprint = await asyncio.to_thread(_fingerprint, settings)
        old = self._built.get(merchant["id"])
        if old is not None and old.fingerprint == fingerprint:
            return old.platform
        platform = await asyncio.to_thread(self._build, merchant["platform"], settings)
        self._built[merchant["id"]] = _Built(fingerprint, platform)
        if old is not None and old.platform is not None:
            self._retired.append((time.monotonic() + RETIRED_S, old.platform))
        return platform

    def _build(self, platform: str, settings: Mapping[str, object]) -> PaymentPlatform | None:
        try:
            if platform == Platform.WECHAT.value:
                wechat = payments.wechat.config.load(**_values(settings))
                return payments.wechat.client.build(wechat, self._settings.wechat_pay_url)
            alipay = payments.alipay.config.load(**_values(settings))
            return payments.alipay.client.build(alipay, self._settings.alipay_gateway_url)
        except MerchantConfigError as error:
            # no trace: the detail names the setting, and a trace could quote a key
            log.error("a merchant cannot be used", platform=platform, detail=error.detail)  # noqa: TRY400  see above
            return None

    async def _close_retired(self) -> None:
        now = time.monotonic()
        due = [platform for until, platform in self._retired if until <= now]
        self._retired = [one for one in self._retired if one[0] > now]
        for platform in due:
            await platform.aclose()


def unusable_settings(
    platform: str, settings: Mapping[str, object], *, is_production: bool
) -> Sequence[tuple[str, str]]:
    """Which of a merchant's settings cannot be used, and why; reads its keys, so in a thread."""
    is_wechat = platform == Platform.WECHAT.value
    load: Callable[..., object] = (
        payments.wechat.config.load if is_wechat else payments.alipay.config.load
    )
    own_id = "mchid" if is_wechat else "app_id"
    faults = []
    if is_production and settings[own_id] in SANDBOX_MERCHANTS:
        faults.append((own_id, "is the sandbox's"))
    try:
        load(**_values(settings))
    except MerchantConfigError as error:
        faults += [
            (f"{setting}_file" if f"{setting}_file" in settings else setting, problem)
            for setting, problem in error.problems
        ]
    return faults


def _values(settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings as the platforms' `load` takes them."""
    return {
        name: Path(str(value)) if name.endswith("_file") else value
        for name, value in settings.items()
    }


def _fingerprint(settings: Mapping[str, object]) -> str:
    """Changes with the settings and with each key file."""
    stamps = []
    for name, value in sorted(settings.items()):
        stamp = 0
        if name.endswith("_file"):
            with suppress(OSError):  # a missing file is the builder's to name
                stamp = Path(str(value)).stat().st_ctime_ns  # its mode counts too
        stamps.append(f"{name}={value}@{stamp}")
    return "|".join(stamps)

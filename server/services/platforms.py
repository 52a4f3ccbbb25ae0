"""How services reach a site's payment platforms without knowing a provider."""

from collections.abc import Sequence
from typing import Protocol

from payments.contract import Method, PaymentPlatform, Platform


class PlatformDirectory(Protocol):
    """The configured merchants; server/app.py builds it and keeps it fresh after an import."""

    async def of_site(self, site_id: int, platform: Platform) -> PaymentPlatform | None:
        """The site's merchant at a platform, or None where it has none."""
        ...

    async def methods(self, site_id: int) -> Sequence[Method]:
        """All methods by which this site can be paid."""
        ...

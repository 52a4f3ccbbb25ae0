"""Finding a site by its code."""

from server.core.errors import NotFoundError
from server.models.database import pool, row, rows

SITE = "SELECT id FROM site WHERE code = $1"


async def find_site(code: str) -> int:
    """The site's id; raises NotFoundError."""
    found = await row(pool(), SITE, code)
    if found is None:
        raise NotFoundError(f"no site {code}")
    return int(found["id"])


async def has_sites() -> bool:
    """Whether anything was ever imported."""
    return bool(await rows(pool(), "SELECT 1 AS any FROM site LIMIT 1"))

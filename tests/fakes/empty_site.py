"""A mall without shops, beside or before others."""

from server.models.database import pool, rows

EMPTY_SITE = """
INSERT INTO site (code, name, timezone, poll_seconds, close_after_days, weixin_templates,
                  holidays_until, created_at)
VALUES ($1, $1, 'Asia/Shanghai', 60, 3, '{}', 0, now()) RETURNING id
"""


async def empty_site(code: str) -> int:
    """Make it, under a name like its code; its id."""
    [made] = await rows(pool(), EMPTY_SITE, code)
    return int(made["id"])

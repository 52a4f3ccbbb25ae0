"""What a tenancy is told: one row a notice, one message a person, in the caller's transaction.

A notice is delivered by proof only, never by having been sent (design, decision 9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from server.core.money import yuan_text
from server.core.supply.notices import NoticeDue
from server.models.database import Connection, row, rows, to_json
from server.services.site_rules import SiteRules

CHANNEL = "weixin"
FIELD_LENGTH_MAX = 20  # WeChat's limit of a `thing` field, the shortest that facts go into

NOTICE = """
INSERT INTO notice (site_id, tenancy_id, kind, level, dedup_key, facts, created_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
ON CONFLICT (tenancy_id, dedup_key) DO NOTHING RETURNING id
"""
MESSAGES = """
INSERT INTO outbox_message (notice_id, channel, address, template_id, fields_json, state,
                            attempts, try_at, in_doubt)
SELECT $1, $2, app_user.openid, $3, $4::jsonb, 'waiting', 0, $5, false
FROM binding JOIN app_user ON app_user.id = binding.user_id
WHERE binding.tenancy_id = $6 AND binding.ended_at IS NULL
ON CONFLICT (notice_id, channel, address) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told: a tenancy, and what its shop is called."""

    site_id: int
    tenancy_id: int
    shop_name: str
    available_fen: int


async def write_notices(
    connection: Connection,
    rules: SiteRules,
    told: Told,
    dues: Sequence[NoticeDue],
    now: datetime,
) -> None:
    """Keep each due notice, and a message to every bound person where a template is configured."""
    for due in dues:
        facts = _facts(rules, told, due, now)
        kept = await row(
            connection,
            NOTICE,
            told.site_id,
            told.tenancy_id,
            due.kind.value,
            due.level,
            f"{due.kind.value}:{due.level}:{now.isoformat()}",
            to_json(facts),
            now,
        )
        template = rules.templates.get(due.kind.value)
        if kept is not None and template is not None:
            fields = {field: facts[fact] for fact, field in template.fields.items()}
            await rows(
                connection,
                MESSAGES,
                kept["id"],
                CHANNEL,
                template.id,
                to_json(fields),
                now,
                told.tenancy_id,
            )


NOTICE_FACTS = ("mall", "shop", "balance", "time", "limit")


def _facts(rules: SiteRules, told: Told, due: NoticeDue, now: datetime) -> Mapping[str, str]:
    """The facts that a template may name (NOTICE_FACTS), as texts."""
    cut_at = due.earliest_cut_at or now
    values = (
        rules.name,
        told.shop_name,
        f"{yuan_text(told.available_fen)}元",
        f"{cut_at.astimezone(rules.zone):%Y-%m-%d %H:%M}",
        f"{yuan_text(due.level)}元",
    )
    return {
        name: value[:FIELD_LENGTH_MAX] for name, value in zip(NOTICE_FACTS, values, strict=True)
    }

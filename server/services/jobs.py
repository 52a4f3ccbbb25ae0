"""Timed jobs that must not be lost: a bell only rings, a row says who does the slot."""

from datetime import datetime, timedelta

from server.models.database import pool, row, rows

KEPT_FOR = timedelta(days=7)

# An expired unfinished claim is taken again: whoever had it is dead (design, decision 14).
CLAIM = """
INSERT INTO job_run (job, slot, claimed_until) VALUES ($1, $2, $4)
ON CONFLICT (job, slot) DO UPDATE SET claimed_until = excluded.claimed_until
WHERE job_run.finished_at IS NULL AND job_run.claimed_until < $3
RETURNING id
"""
FINISH = "UPDATE job_run SET finished_at = $3 WHERE job = $1 AND slot = $2"
FORGET = "DELETE FROM job_run WHERE finished_at < $1"


async def claim_slot(job: str, slot: str, now: datetime, claim_for: timedelta) -> bool:
    """Whether this process is to do the slot."""
    return await row(pool(), CLAIM, job, slot, now, now + claim_for) is not None


async def finish_slot(job: str, slot: str, now: datetime) -> None:
    """The slot is done, once and for all."""
    await rows(pool(), FINISH, job, slot, now)


async def forget_old_slots(now: datetime) -> None:
    """Drop finished slots older than a week."""
    await rows(pool(), FORGET, now - KEPT_FOR)

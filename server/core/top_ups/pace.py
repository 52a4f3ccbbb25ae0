"""How long an order may be paid, and how often its platform is asked what became of it."""

from datetime import datetime, timedelta

ORDER_LIFE = timedelta(minutes=30)
ASKED_FOR = timedelta(days=2)  # an undecided order is asked for so long after it expired
# until this age, in seconds: a pause; a code is on a screen first, then hardly anybody looks
STEPS_S = ((30, 2), (90, 5), (390, 15), (3_600, 60))
LATER_S = 600
FIRST = timedelta(seconds=STEPS_S[0][1])  # orders of one moment come apart by themselves
JITTER_PERCENT = 10


def pause(age: timedelta, seed: int) -> timedelta:
    """Until it is asked again; `seed` spreads orders of one moment over a tenth either way."""
    seconds = age // timedelta(seconds=1)
    pause_s = next((step for until, step in STEPS_S if seconds < until), LATER_S)
    spread = seed % (2 * JITTER_PERCENT + 1) - JITTER_PERCENT
    return timedelta(milliseconds=pause_s * 10 * (100 + spread))


def is_forgotten(expires_at: datetime, now: datetime) -> bool:
    """Whether asking is over, answered or not: money that comes later is credited all the same."""
    return now > expires_at + ASKED_FOR

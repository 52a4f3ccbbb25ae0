"""Whatever happens to payments, in the end the books and both platforms agree to the fen.

`make test` takes two short walks, always the same ones. For a long one, with as many orders as you
like and another seed each time (or the one of WALK_SEED):

    WALK_ORDERS=3000 .venv/bin/python -m pytest --timeout=0 tests/scenarios/test_payment_walk.py
"""

import os
import random
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest

from payments.alipay import gateway
from payments.wechat import calls
from server.services.audit import audit
from tests.scenarios.payment_walk import Walk, walking
from tests.scenarios.world import World, local

DEEP = int(os.environ.get("WALK_ORDERS", "0"))
SEED = int(os.environ.get("WALK_SEED", "0")) or secrets.randbelow(10**6)
SEEDS = [SEED] if DEEP else [1, 2]
# how often each, and every how manieth is killed on the way (0: none)
ACTS = {
    "order": (20, 25),
    "again": (4, 0),
    "change": (5, 12),
    "leave": (1, 0),
    "pay": (22, 0),
    "stranger": (1, 0),
    "refund": (3, 12),
    "trouble": (12, 0),
    "decide": (2, 8),
    "work": (20, 4),
    "wait": (16, 6),
}
Step = tuple[str, int, int]


def steps(chance: random.Random, orders: int) -> Sequence[Step]:
    """So many orders, and all that happens between them."""
    names, weights = list(ACTS), [often for often, _ in ACTS.values()]
    count = orders * sum(weights) // ACTS["order"][0]
    found = []
    for name in chance.choices(names, weights, k=count):
        every = ACTS[name][1]
        killed = chance.randrange(1, 30) if every and chance.randrange(every) == 0 else 0
        found.append((name, chance.randrange(10**6), killed))
    return found


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (calls, gateway):
        monkeypatch.setattr(module, "BACKOFF_S", 0.001)


async def agree(walk: Walk) -> None:
    await walk.done()
    booked, paid = await walk.credits()
    assert booked == paid
    found = await walk.fen()
    assert {name: ours for name, (ours, _) in found.items()} == {
        name: theirs for name, (_, theirs) in found.items()
    }
    assert (await audit(lambda _: None)).violations == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_books_agree_with_both_platforms_whatever_happened(
    database: None, tmp_path: Path, seed: int
) -> None:
    async with walking(World(local("2026-05-20 10:00")), tmp_path) as walk:
        chance = random.Random(seed)  # noqa: S311  to be walked again
        for name, number, killed in steps(chance, DEEP or 12):
            await walk.act(name, number, killed)
        await agree(walk)

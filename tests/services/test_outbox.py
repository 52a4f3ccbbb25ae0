"""A message goes out once; only one in doubt at a kill goes out a second time, and is marked."""

from datetime import UTC, datetime, timedelta

import pytest

from server.channels.contract import ChannelError, Message, Sent
from server.models.database import Row, pool, rows
from server.services import outbox
from server.services.site_import import ImportReport
from server.services.wakeups import Wakeups
from server.workers.context import WorkContext
from server.workers.notices import send_messages
from tests.fakes.payment_platform import FakeDirectory

NOW = datetime(2026, 5, 20, 2, 0, tzinfo=UTC)
NOTICE = """
WITH noted AS (
    INSERT INTO notice (site_id, tenancy_id, kind, level, dedup_key, facts, created_at)
    SELECT site_id, id, 'low_balance', 1, 'k', '{}', $1 FROM tenancy RETURNING id)
INSERT INTO outbox_message (notice_id, channel, address, template_id, fields_json, state,
                            attempts, try_at, in_doubt)
SELECT id, 'weixin', 'openid-' || number, 'T', '{"thing1": "x"}', 'waiting', 0, $1, false
FROM noted, generate_series(1, $2::int) AS number
"""


class Channel:
    """Takes messages, or fails as it is told."""

    name = "weixin"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent: list[Message] = []

    async def send(self, message: Message, now: datetime) -> Sent:
        assert now.tzinfo is not None
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append(message)
        return Sent(f"id-{len(self.sent)}")


async def the_message() -> Row:
    found = await rows(pool(), "SELECT * FROM outbox_message")
    assert len(found) == 1
    return found[0]


def context(channel: Channel | None, now: datetime) -> WorkContext:
    channels = {} if channel is None else {"weixin": channel}
    return WorkContext(lambda: now, FakeDirectory(), channels, Wakeups(None))


async def test_a_message_goes_out_once(mall: ImportReport) -> None:
    await rows(pool(), NOTICE, NOW, 3)
    channel = Channel()
    assert await send_messages(context(channel, NOW)) == 3
    assert await send_messages(context(channel, NOW + timedelta(days=1))) == 0
    assert sorted(one.address for one in channel.sent) == ["openid-1", "openid-2", "openid-3"]
    assert await rows(pool(), "SELECT DISTINCT state FROM outbox_message") == [{"state": "sent"}]


async def test_what_was_in_flight_at_a_kill_goes_out_once_more_and_never_again(
    mall: ImportReport,
) -> None:
    await rows(pool(), NOTICE, NOW, 1)
    assert len(await outbox.claim_messages(NOW, 8)) == 1  # and then the process was killed
    assert await outbox.claim_messages(NOW + timedelta(seconds=59), 8) == []
    again = NOW + timedelta(seconds=61)
    assert len(await outbox.claim_messages(again, 8)) == 1  # and killed again
    assert (await the_message())["in_doubt"]
    assert await outbox.claim_messages(again + timedelta(seconds=61), 8) == []
    lost = await the_message()
    assert (lost["state"], lost["error"]) == ("failed", "in doubt twice")


@pytest.mark.parametrize(
    ("error", "state", "error_text"),
    [
        (ChannelError("busy", transient=True), "waiting", "busy"),
        (ChannelError("no consent"), "failed", "no consent"),
    ],
)
async def test_a_refusal_is_tried_again_only_where_that_helps(
    mall: ImportReport, error: ChannelError, state: str, error_text: str
) -> None:
    await rows(pool(), NOTICE, NOW, 1)
    await send_messages(context(Channel(error), NOW))
    kept = await the_message()
    assert (kept["state"], kept["error"]) == (state, error_text)


async def test_tries_come_ever_later_and_end(mall: ImportReport) -> None:
    await rows(pool(), NOTICE, NOW, 1)
    busy = Channel(*(ChannelError("busy", transient=True) for _ in range(100)))
    now = NOW
    for _ in range(1_000):
        await send_messages(context(busy, now))
        now += timedelta(seconds=30)
    kept = await the_message()
    assert (kept["state"], kept["attempts"]) == ("failed", outbox.ATTEMPTS_MAX)


async def test_a_fault_in_one_message_leaves_the_others_their_way(mall: ImportReport) -> None:
    await rows(pool(), NOTICE, NOW, 3)
    channel = Channel(RuntimeError("a fault of ours"))
    assert await send_messages(context(channel, NOW)) == 3
    assert len(channel.sent) == 2


async def test_without_its_channel_a_message_fails_and_says_so(mall: ImportReport) -> None:
    await rows(pool(), NOTICE, NOW, 1)
    await send_messages(context(None, NOW))
    assert (await the_message())["error"] == "no channel weixin here"

"""What every MessageChannel keeps to, whichever provider is behind it."""

from datetime import UTC, datetime

import pytest

from server.channels.contract import ChannelError, Message, MessageChannel
from server.channels.log.client import LogChannel
from server.channels.weixin.client import WeixinClient

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)
MESSAGE = Message(
    address="o-alice-0000",
    template_id="T-1",
    fields={"thing1": "示范商场 A101", "amount2": "12.34元"},
    page="pages/shop/index?id=1",
)


@pytest.fixture(params=["weixin", "log"])
def channel(request: pytest.FixtureRequest, weixin: WeixinClient) -> MessageChannel:
    channels: dict[str, MessageChannel] = {"weixin": weixin, "log": LogChannel()}
    found = channels[request.param]
    assert found.name == request.param
    return found


async def test_a_message_taken_over_has_an_id_of_its_own(channel: MessageChannel) -> None:
    ids = {(await channel.send(MESSAGE, NOW)).channel_id for _ in range(3)}

    assert len(ids) == 3
    assert "" not in ids


@pytest.mark.parametrize("bad", [{"address": ""}, {"template_id": ""}])
async def test_a_message_to_nowhere_is_finally_refused(
    channel: MessageChannel, bad: dict[str, str]
) -> None:
    message = Message(
        **{"address": MESSAGE.address, "template_id": "T-1", "fields": {"thing1": "x"}} | bad  # type: ignore[arg-type]  # a table of changes
    )

    with pytest.raises(ChannelError) as refused:
        await channel.send(message, NOW)

    assert refused.value.code
    assert not refused.value.transient

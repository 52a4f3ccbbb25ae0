"""The log channel: one line a message, and nobody's address in it."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from server.channels.contract import Message
from server.channels.log.client import LogChannel, masked

NOW = datetime(2026, 5, 24, 2, 0, tzinfo=UTC)


async def test_a_message_is_one_line() -> None:
    with capture_logs() as lines:
        sent = await LogChannel().send(
            Message("13812345678", "T-1", {"balance": "12.34", "text": "长" * 100}, "p"), NOW
        )

    assert lines == [
        {
            "log_level": "info",
            "event": "message_logged",
            "channel_id": sent.channel_id,
            "address": "138****78",
            "template_id": "T-1",
            "fields": {"balance": "12.34", "text": "长" * 64},
            "page": "p",
            "at": "2026-05-24T02:00:00+00:00",
        }
    ]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("13812345678", "138****78"),
        ("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "oUp****6o"),
        ("1234567", "****"),
        ("", "****"),
    ],
)
def test_an_address_is_masked(address: str, shown: str) -> None:
    assert masked(address) == shown

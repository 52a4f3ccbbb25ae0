"""Messages as structured log lines: for development, and where no other provider is set."""

import secrets
from datetime import datetime

import structlog

from server.channels.contract import ChannelError, Message, Sent

FIELDS_MAX = 20
VALUE_CHARS_MAX = 64


class LogChannel:
    """A MessageChannel that reaches nobody."""

    name = "log"

    def __init__(self) -> None:
        self._log = structlog.get_logger("mallwatt.channels.log")

    async def send(self, message: Message, now: datetime) -> Sent:
        """Write one line; raises ChannelError where a real channel would find no address."""
        if not message.address or not message.template_id:
            raise ChannelError("no address or no template", code="address")
        channel_id = f"log-{secrets.token_hex(8)}"
        self._log.info(
            "message_logged",
            channel_id=channel_id,
            address=masked(message.address),
            template_id=message.template_id,
            fields={
                name: value[:VALUE_CHARS_MAX]
                for name, value in list(message.fields.items())[:FIELDS_MAX]
            },
            page=message.page,
            at=now.isoformat(),
        )
        return Sent(channel_id)


def masked(address: str) -> str:
    """An address of which only the ends remain: 13812345678 is 138****78."""
    if len(address) < 8:
        return "****"
    return f"{address[:3]}****{address[-2:]}"

"""What every message channel and the WeChat API offer to services."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one person. `address`: openid or phone; `fields`: template key -> value."""

    address: str
    template_id: str
    fields: Mapping[str, str]
    page: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel took it over; it is not yet delivered. `channel_id` names it in receipts."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class Shipment:
    """What was bought in the mini-program and is delivered at once: nothing is carried.

    `transaction_id`: the platform's number of the payment; `address`: the payer's openid.
    """

    transaction_id: str
    address: str
    description: str


class ChannelError(Exception):
    """A channel did not take a message; `transient`: the same call may succeed later."""

    def __init__(self, detail: str, *, code: str = "", transient: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.transient = transient


class MessageChannel(Protocol):
    """Sends messages; never says delivered."""

    name: str

    async def send(self, message: Message, now: datetime) -> Sent:
        """Hand a message over; raises ChannelError."""
        ...


class LoginProvider(Protocol):
    """Turns a wx.login code into an openid."""

    app_id: str

    async def openid(self, code: str) -> str:
        """The person's openid; raises ChannelError (final: the code is wrong or used)."""
        ...


class ShippingDesk(Protocol):
    """Is told what was delivered; until then WeChat holds the money of some mini-programs back."""

    async def tell_shipped(self, shipment: Shipment, now: datetime) -> None:
        """Tell it; what was told before is no error. Raises ChannelError."""
        ...

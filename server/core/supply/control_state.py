"""The control states of IEC 62056 disconnect control, as the API spells them."""

from enum import StrEnum


class ControlState(StrEnum):
    """What a relay is, or should be. COSEM numbers: 0, 1, 2 in this order."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    READY_FOR_RECONNECTION = "ready_for_reconnection"

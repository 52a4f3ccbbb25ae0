"""What can go wrong between us and a meter: whose fault it is, and whether trying again helps."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.core.errors import Fault, MallwattError


class DeviceError(MallwattError):
    """Base of every error of this room."""

    code = "device_error"
    fault = Fault.PEER
    transient = True


class MeterMuteError(DeviceError):
    """The meter did not answer in time, or is being left alone because it has not for a while."""

    code = "meter_mute"


class LinkDownError(DeviceError):
    """There is no connection to the gateway, or it was lost while we waited."""

    code = "link_down"


class FrameError(DeviceError):
    """Something was heard, but nothing that is an answer to what was asked."""

    code = "bad_frame"


class MeterExceptionError(DeviceError):
    """The meter answered that it will not: a Modbus exception, a DL/T 645 error."""

    code = "meter_exception"
    transient = False

    def __init__(self, detail: str, *, exception_code: int, transient: bool = False) -> None:
        super().__init__(detail)
        self.exception_code = exception_code
        self.transient = transient


class MeterValueError(DeviceError):
    """A sound answer whose content is no number: a BCD nibble above 9, a float that is NaN."""

    code = "meter_value"


class IdentityChangedError(DeviceError):
    """Another meter answers at this address: it was exchanged. Nothing was written."""

    code = "identity_changed"
    transient = False

    def __init__(self, expected: str, found: str | None) -> None:
        super().__init__(f"expected meter {expected}, found {found or 'none'}")
        self.expected = expected
        self.found = found


class ControlRefusedError(DeviceError):
    """The meter answered the relay command with a refusal, or its profile has no such command."""

    code = "control_refused"
    transient = False


class BusBusyError(DeviceError):
    """The queue of this bus is full."""

    code = "bus_busy"
    fault = Fault.OURS


class DeadlineError(DeviceError):
    """The deadline passed before the meter could be asked."""

    code = "deadline_passed"
    fault = Fault.OURS


class MisconfiguredError(DeviceError):
    """A gateway or a meter is described in a way that cannot work."""

    code = "device_misconfigured"
    fault = Fault.CALLER
    transient = False


@dataclass(frozen=True, slots=True)
class ProfileFault:
    """One thing wrong with one profile: the file, the line and the key, and what to change."""

    file: str
    line: int
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.place or 'profile'}: {self.message}"


class ProfileError(DeviceError):
    """Profiles that cannot be used, with every fault found in them."""

    code = "bad_profile"
    fault = Fault.CALLER
    transient = False

    def __init__(self, faults: Sequence[ProfileFault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)

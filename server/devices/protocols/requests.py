"""What can be asked of a meter, without the bytes: profiles hold these, protocols frame them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegisterRead:
    """Modbus functions 1 to 4; `count` is bits for 1 and 2, registers for 3 and 4."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """Modbus functions 5, 6, 15 and 16."""

    function: int
    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataRead:
    """A DL/T 645 data identifier, high byte first as it is printed, and the bytes it carries.

    `exact`: an answer of another length does not belong; a block may be longer.
    """

    di: bytes
    size: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class RelayCommand:
    """DL/T 645 control 1Ch: 1Ah trips, 1Bh permits closing, 1Ch closes."""

    code: int


ReadRequest = RegisterRead | DataRead
WriteRequest = RegisterWrite | RelayCommand
Request = ReadRequest | WriteRequest

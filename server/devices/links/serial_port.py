"""A serial port: pyserial opens and sets it, the event loop watches it. POSIX only."""

import asyncio
import os

import serial

from server.devices.errors import MisconfiguredError
from server.devices.links.link import RedialingLink

READ_SIZE = 4_096
PARITIES = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}


def parse_serial_format(text: str) -> tuple[int, str, int]:
    """Data bits, parity and stop bits of a text such as 8E1."""
    if len(text) != 3 or text[0] not in "78" or text[1] not in PARITIES or text[2] not in "12":
        raise MisconfiguredError(f"a serial format is like 8N1 or 8E1, not {text!r}")
    return int(text[0]), text[1], int(text[2])


class SerialLink(RedialingLink):
    """A port that is opened again when it disappears (a USB converter that was pulled)."""

    late_s = 1.0  # on a wire, a meter that is later than this will not answer any more

    def __init__(self, name: str, device: str, baud: int, serial_format: str) -> None:
        super().__init__(name)
        self._device = device
        self._baud = baud
        self._bits, self._parity, self._stop = parse_serial_format(serial_format)

    async def open(self) -> "SerialChannel":
        """Open and set the port in a thread: some drivers wait for modem lines."""
        port = await asyncio.to_thread(self._open_port)
        return SerialChannel(self, port)

    def _open_port(self) -> serial.Serial:
        return serial.Serial(
            self._device,
            baudrate=self._baud,
            bytesize=self._bits,
            parity=PARITIES[self._parity],
            stopbits=self._stop,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )


class SerialChannel:
    """An open port."""

    ended: str | None = None

    def __init__(self, link: SerialLink, port: serial.Serial) -> None:
        self._link = link
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._fd: int = port.fileno()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._link.lost(self, str(error))
            return
        if data:
            self._link.heard(self, data)
        else:
            self._link.lost(self, "the port is gone")

    def write(self, data: bytes) -> None:
        """Hand a frame to the driver, whose buffer holds several."""
        try:
            os.write(self._fd, data)
        except OSError as error:
            self._link.lost(self, str(error))

    def close(self) -> None:
        """Stop watching and close."""
        self._loop.remove_reader(self._fd)
        self._port.close()

"""A merchant's settings as they are read: all that cannot be used is named at once, never shown."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Never, TypeVar

from payments.contract import MerchantConfigError

KEY_FILE_BYTES_MAX = 16 * 1024

T = TypeVar("T")


class Problems:
    """What is wrong with settings that are read one after the other."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def take(self, read: Callable[[], T]) -> T | None:
        """What `read` gives; None where it raises MerchantConfigError, whose problems are kept."""
        try:
            return read()
        except MerchantConfigError as error:
            self.found += error.problems
            return None


def refuse(setting: str, problem: str) -> Never:
    """Raise MerchantConfigError; no cause goes with it, for a parser's message may quote a key."""
    raise MerchantConfigError((setting, problem)) from None


def read_key(setting: str, path: Path, *, secret: bool) -> str:
    """The text of a key file; raises MerchantConfigError, also for a secret open to everybody."""
    try:
        with path.open("rb") as file:
            is_open = bool(os.fstat(file.fileno()).st_mode & stat.S_IROTH)
            content = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        refuse(setting, f"cannot be read: {error.strerror or type(error).__name__}")
    if secret and is_open:  # a group that shares the file is the operator's own decision
        refuse(setting, "can be read by others (chmod 600)")
    if len(content) > KEY_FILE_BYTES_MAX:
        refuse(setting, "is too large for a key file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        refuse(setting, "is not a text file")


def checked_key(
    setting: str, path: Path, parse: Callable[[str, str], object], *, secret: bool
) -> str:
    """The text of a key file that `parse` (text, setting) can use; raises MerchantConfigError."""
    text = read_key(setting, path, secret=secret)
    parse(text, setting)
    return text

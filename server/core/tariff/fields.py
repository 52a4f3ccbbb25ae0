"""Reads one table of the site file key by key and notes every fault with its place."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from enum import StrEnum
from reprlib import repr as short_repr
from typing import TypeVar

from server.core.errors import InvalidInputError
from server.core.money import micro_yuan_from_text, price_text

CODE_CHARS_MAX = 32  # as the tables keep it
_Choice = TypeVar("_Choice", bound=StrEnum)


class TariffErrors(InvalidInputError):  # noqa: N818 - it carries several, and its name says so
    """Every fault of a table, each as (place, message)."""

    def __init__(self, errors: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{place}: {message}" for place, message in errors))
        self.errors = errors


class Faults:
    """Gathers faults; reading goes on after one, so that all are named at once."""

    def __init__(self) -> None:
        """Without any."""
        self._found: list[tuple[str, str]] = []

    def note(self, place: str, message: str) -> None:
        """One more fault."""
        self._found.append((place, message))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    def raise_any(self) -> None:
        """Raises TariffErrors if there is a fault."""
        if self._found:
            raise TariffErrors(tuple(self._found))


class Fields:
    """One table; what it holds beyond the keys that were taken is a fault."""

    def __init__(self, table: object, faults: Faults, place: str = "") -> None:
        """`place` names the table inside the outermost one, which is ""."""
        if not isinstance(table, Mapping):
            faults.note(place, "must be a table")
            table = {}
        self._left: dict[object, object] = dict(table)
        self._place = place
        self.faults = faults

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def place(self, key: str) -> str:
        """Where this key is, seen from the outermost table."""
        return f"{self._place}.{key}" if self._place else key

    def note(self, key: str, message: str) -> None:
        """A fault of this key."""
        self.faults.note(self.place(key), message)

    def take(self, key: str) -> object | None:
        """The raw value, None where it is absent."""
        return self._left.pop(key, None)

    def refuse_rest(self) -> None:
        """Every key that nobody took is unknown."""
        for key in self._left:
            self.note(str(key)[:CODE_CHARS_MAX], "is not a known key here")

    def code(self, key: str) -> str:
        """A required code."""
        value = self.take(key)
        if not isinstance(value, str) or not value or value != value.strip():
            self.note(key, "is required: a text without spaces around it")
        elif len(value) > CODE_CHARS_MAX or not value.isprintable():
            self.note(key, f"has at most {CODE_CHARS_MAX} printable characters")
        return str(value)

    def day(self, key: str, default: date) -> date:
        """A date, as TOML or as a text."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            self.note(key, f"must be a date such as 2026-01-01, not {short_repr(value)}")
            return default

    def choice(self, key: str, choices: type[_Choice], default: _Choice) -> _Choice:
        """One of a closed list of words."""
        value = self.take(key)
        if value is None:
            return default
        try:
            return choices(str(value))
        except ValueError:
            self.note(key, f"must be one of {', '.join(choices)}, not {short_repr(value)}")
            return default

    def price(self, key: str, most_micro_yuan: int) -> int:
        """A required price in micro-yuan, of at most so much."""
        value = self.take(key)
        if value is None:
            self.note(key, "is required")
        elif not isinstance(value, str):
            self.note(key, f'a price is a text such as "0.6172", not {short_repr(value)}')
        elif value.startswith("-"):
            self.note(key, f"a price is never negative: {short_repr(value)}")
        else:
            return self._bounded_price(key, value, most_micro_yuan)
        return 0

    def _bounded_price(self, key: str, text: str, most_micro_yuan: int) -> int:
        try:
            price_micro_yuan = micro_yuan_from_text(text)
        except InvalidInputError:
            self.note(key, f"must be yuan with up to 9 digits and 6 decimals: {short_repr(text)}")
            return 0
        if price_micro_yuan > most_micro_yuan:
            most = price_text(most_micro_yuan)
            self.note(key, f"must be at most {most} yuan: {short_repr(text)}")
        return price_micro_yuan

    def prices(
        self, key: str, names: type[_Choice], most_micro_yuan: int
    ) -> tuple[tuple[_Choice, int], ...]:
        """A required table of prices by name, in the order of the names."""
        if key not in self:
            self.note(key, "is required")
            return ()
        table = Fields(self.take(key), self.faults, self.place(key))
        found = tuple((name, table.price(name, most_micro_yuan)) for name in names if name in table)
        table.refuse_rest()
        return found

    def rows(self, key: str, most: int) -> tuple[object, ...]:
        """A required list with at least one row."""
        value = self.take(key)
        if not isinstance(value, list | tuple) or not value:
            self.note(key, "is required: a list with at least one row")
            return ()
        if len(value) > most:
            self.note(key, f"has at most {most} rows, not {len(value)}")
            return ()
        return tuple(value)

    def integers(self, key: str, allowed: Collection[int], default: tuple[int, ...]) -> list[int]:
        """A list of distinct integers out of `allowed`, ascending."""
        value = self.take(key)
        if value is None:
            return list(default)
        if not isinstance(value, list | tuple) or not value:
            self.note(key, "must be a list with at least one number")
            return list(default)
        numbers = [number for number in value if type(number) is int and number in allowed]
        if len(numbers) != len(value) or len(set(numbers)) != len(numbers):
            self.note(
                key, f"each number once, {min(allowed)} to {max(allowed)}: {short_repr(value)}"
            )
        return sorted(set(numbers))

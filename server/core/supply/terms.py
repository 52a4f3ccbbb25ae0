"""A supply policy as an operator writes it: typed, with every mistake named at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import pairwise

from server.core.errors import InvalidInputError
from server.core.supply.windows import parse_no_disconnect_item

FEN_MAX = 1_000_000_000
NOTICE_MINUTES_MAX = 60 * 24 * 28
WARNINGS_MAX = 8
NO_DISCONNECT_MAX = 16


class ReconnectMode(StrEnum):
    """Whether power may return by itself or only after the tenant says that it is safe."""

    AUTOMATIC = "automatic"
    CONFIRM = "confirm"


class SupplyPolicyError(InvalidInputError):
    """A table that is no supply policy; `problems` names each (place, message)."""

    code = "invalid_supply_policy"

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{place}: {message}" for place, message in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyPolicy:
    """When a tenancy is warned, disconnected and reconnected (contract, section 3)."""

    low_balance_fen: tuple[int, ...] = (10_000, 3_000)
    hoarding_limit_fen: int = 5_000_000
    emergency_credit_fen: int = 0
    overdraft_limit_fen: int = 0
    reconnect_at_fen: int = 1
    notice_minutes: tuple[int, ...] = (4_320, 30)
    no_disconnect: tuple[str, ...] = ("20:00-09:00", "weekend", "holiday")
    reconnect: ReconnectMode = ReconnectMode.AUTOMATIC


def parse_supply_policy(table: Mapping[str, object]) -> SupplyPolicy:
    """The policy of a site file's table; raises SupplyPolicyError with every problem in it."""
    problems = [(name, "no such key") for name in table if name not in _READERS]
    values: dict[str, object] = {}
    for name, read in _READERS.items():
        if name in table:
            try:
                values[name] = read(table[name])
            except InvalidInputError as error:
                problems.append((name, error.detail))
    if not problems:
        policy = SupplyPolicy(**values)  # type: ignore[arg-type]  # each reader gives its field's type
        problems = _contradictions(policy)
        if not problems:
            return policy
    raise SupplyPolicyError(tuple(problems))


def policy_table(policy: SupplyPolicy) -> dict[str, object]:
    """The table that parses to this policy, every key in it."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    return {
        name: list(value) if isinstance(value, tuple) else _plain(value)
        for name, value in values.items()
    }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, StrEnum) else value


def _contradictions(policy: SupplyPolicy) -> list[tuple[str, str]]:
    problems = []
    if policy.reconnect_at_fen < -policy.overdraft_limit_fen:
        problems.append(
            ("reconnect_at_fen", "is below minus overdraft_limit_fen, where an episode starts")
        )
    if policy.reconnect_at_fen > policy.hoarding_limit_fen:
        problems.append(("reconnect_at_fen", "is above hoarding_limit_fen: nobody could pay it"))
    return problems


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"is not a whole number: {value!r}")
    if not least <= value <= most:
        raise InvalidInputError(f"is not from {least} to {most}: {value}")
    return value


def _amount_from(least_fen: int) -> Callable[[object], int]:
    return lambda value: _whole(value, least_fen, FEN_MAX)


def _items(value: object, most: int) -> list[object]:
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"is not a list: {value!r}")
    if len(value) > most:
        raise InvalidInputError(f"has more than {most} items")
    return list(value)


def _falling(most: int) -> Callable[[object], tuple[int, ...]]:
    def read(value: object) -> tuple[int, ...]:
        numbers = tuple(_whole(item, 0, most) for item in _items(value, WARNINGS_MAX))
        if any(later >= earlier for earlier, later in pairwise(numbers)):
            raise InvalidInputError("does not fall from each item to the next")
        return numbers

    return read


def _no_disconnect(value: object) -> tuple[str, ...]:
    texts = []
    for item in _items(value, NO_DISCONNECT_MAX):
        if not isinstance(item, str):
            raise InvalidInputError(f"is not a text: {item!r}")
        parse_no_disconnect_item(item)
        texts.append(item)
    return tuple(texts)


def _reconnect(value: object) -> ReconnectMode:
    try:
        return ReconnectMode(str(value))
    except ValueError:
        raise InvalidInputError(f'is neither "automatic" nor "confirm": {value!r}') from None


_READERS: dict[str, Callable[[object], object]] = {
    "low_balance_fen": _falling(FEN_MAX),
    "hoarding_limit_fen": _amount_from(1),
    "emergency_credit_fen": _amount_from(0),
    "overdraft_limit_fen": _amount_from(0),
    "reconnect_at_fen": _amount_from(-FEN_MAX),
    "notice_minutes": _falling(NOTICE_MINUTES_MAX),
    "no_disconnect": _no_disconnect,
    "reconnect": _reconnect,
}

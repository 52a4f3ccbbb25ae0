"""Live regions: what an event stream sends, and when it looks again."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a page now, by id; `over`: nothing more will change."""

    markup: Mapping[str, str]
    over: bool = False


@dataclass(frozen=True, slots=True)
class Live:
    """What a page follows: the topics that wake it, and how to look at the tables.

    `holder` is who has the page open, for the limit on how many.
    """

    holder: str
    topics: Sequence[str]
    look: Callable[[], Awaitable[Regions]]

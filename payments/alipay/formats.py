"""Alipay's text forms: yuan for money, Shanghai wall time for moments."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")

_YUAN = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,2}))?", re.ASCII)
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?")


def yuan_text(fen: int) -> str:
    """Fen as yuan with two decimals: 1 is "0.01"; `fen` is not negative."""
    return f"{fen // 100}.{fen % 100:02d}"


def fen_from_yuan(text: str) -> int:
    """Yuan text with at most two decimals in fen, exactly; raises ValueError."""
    match = _YUAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not an amount in yuan: {text[:32]!r}")
    return int(match.group(1)) * 100 + int((match.group(2) or "").ljust(2, "0"))


def shanghai_text(moment: datetime) -> str:
    """An aware moment as `yyyy-MM-dd HH:mm:ss` in Shanghai."""
    return moment.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")


def moment_from_shanghai(text: str) -> datetime:
    """The aware moment of a Shanghai wall time (fractions are dropped); raises ValueError."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text[:32]!r}")
    return datetime.fromisoformat(match.group(1)).replace(tzinfo=SHANGHAI)

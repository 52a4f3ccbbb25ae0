"""Integer money: fen in the books, micro-yuan in a price, nano-yuan between the two.

Wh x micro-yuan/kWh = nano-yuan, exactly (design, decision 4).
"""

import re

from server.core.errors import InvalidInputError

NANO_YUAN_PER_FEN = 10_000_000
MICRO_YUAN_PER_YUAN = 1_000_000
FEN_PER_YUAN = 100

_DECIMAL = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?", re.ASCII)


def fen_from_nano_yuan(nano_yuan: int) -> int:
    """Nano-yuan in fen, half up (away from zero): the one place where money is rounded."""
    sign = -1 if nano_yuan < 0 else 1
    return sign * ((abs(nano_yuan) + NANO_YUAN_PER_FEN // 2) // NANO_YUAN_PER_FEN)


def micro_yuan_from_text(text: str) -> int:
    """A price such as "0.6172" (yuan) in micro-yuan; raises InvalidInputError."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"not a price in yuan with up to 6 decimals: {text!r}")
    whole, fraction = match.group(1), match.group(2) or ""
    return int(whole) * MICRO_YUAN_PER_YUAN + int(fraction.ljust(6, "0"))


def yuan_text(fen: int) -> str:
    """Fen as yuan with two decimals: -5 is "-0.05"."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // FEN_PER_YUAN}.{abs(fen) % FEN_PER_YUAN:02d}"


def price_text(micro_yuan: int) -> str:
    """Micro-yuan as yuan with at least two decimals and no idle zeros after them."""
    whole, fraction = divmod(micro_yuan, MICRO_YUAN_PER_YUAN)
    return f"{whole}.{f'{fraction:06d}'.rstrip('0').ljust(2, '0')}"


def apportion(total: int, weights: tuple[int, ...]) -> tuple[int, ...]:
    """Shares of `total` by weight, largest remainder first, adding up to it exactly.

    Weights are not negative; all zero gives the whole to the first. Ties go to the earlier one.
    """
    if not weights:
        raise InvalidInputError("nothing to apportion to")
    weight_sum = sum(weights)
    if weight_sum == 0:
        return (total, *(0 for _ in weights[1:]))
    size = abs(total)
    shares = [size * weight // weight_sum for weight in weights]
    if left := size - sum(shares):
        remainders = [size * weight % weight_sum for weight in weights]
        order = sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)
        for i in order[:left]:
            shares[i] += 1
    return tuple(shares) if total >= 0 else tuple([-share for share in shares])

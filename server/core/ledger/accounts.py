"""The accounts of one site: two wallets a tenancy, everything else once a site."""

from dataclasses import dataclass
from enum import StrEnum

from server.core.errors import InvalidInputError


class Side(StrEnum):
    """The two sides of an account."""

    DEBIT = "debit"
    CREDIT = "credit"


class AccountKind(StrEnum):
    """What an account stands for; the value is stored."""

    ELECTRICITY_WALLET = "electricity_wallet"
    FIXED_CHARGES_WALLET = "fixed_charges_wallet"
    WECHAT_CLEARING = "wechat_clearing"
    ALIPAY_CLEARING = "alipay_clearing"
    DESK = "desk"
    BANK = "bank"
    ENERGY_REVENUE = "energy_revenue"
    FIXED_CHARGE_REVENUE = "fixed_charge_revenue"
    ADJUSTMENTS = "adjustments"
    ROUNDING = "rounding"
    SUSPENSE = "suspense"
    REFUNDS_IN_PROGRESS = "refunds_in_progress"
    OPENING_BALANCES = "opening_balances"


WALLET_KINDS = frozenset({AccountKind.ELECTRICITY_WALLET, AccountKind.FIXED_CHARGES_WALLET})

# Where a balance is looked for: assets and costs on the debit side; what is owed or earned on
# the credit side. The sums of both sides over all accounts are always equal.
NORMAL_SIDE = {
    AccountKind.ELECTRICITY_WALLET: Side.CREDIT,
    AccountKind.FIXED_CHARGES_WALLET: Side.CREDIT,
    AccountKind.WECHAT_CLEARING: Side.DEBIT,
    AccountKind.ALIPAY_CLEARING: Side.DEBIT,
    AccountKind.DESK: Side.DEBIT,
    AccountKind.BANK: Side.DEBIT,
    AccountKind.ENERGY_REVENUE: Side.CREDIT,
    AccountKind.FIXED_CHARGE_REVENUE: Side.CREDIT,
    AccountKind.ADJUSTMENTS: Side.DEBIT,
    AccountKind.ROUNDING: Side.CREDIT,
    AccountKind.SUSPENSE: Side.CREDIT,
    AccountKind.REFUNDS_IN_PROGRESS: Side.CREDIT,
    AccountKind.OPENING_BALANCES: Side.DEBIT,
}


@dataclass(frozen=True, slots=True)
class AccountRef:
    """One account of a site; a wallet names its tenancy, no other account may."""

    kind: AccountKind
    tenancy_id: int | None = None

    def __post_init__(self) -> None:
        if self.is_wallet and (self.tenancy_id is None or self.tenancy_id < 1):
            raise InvalidInputError(f"{self.kind} needs a tenancy, got {self.tenancy_id!r}")
        if not self.is_wallet and self.tenancy_id is not None:
            raise InvalidInputError(f"{self.kind} is the site's, not tenancy {self.tenancy_id}'s")

    @property
    def is_wallet(self) -> bool:
        """Whether a tenancy owns it and it has a balance row."""
        return self.kind in WALLET_KINDS


def electricity_wallet(tenancy_id: int) -> AccountRef:
    """The wallet that energy is taken from."""
    return AccountRef(AccountKind.ELECTRICITY_WALLET, tenancy_id)


def fixed_charges_wallet(tenancy_id: int) -> AccountRef:
    """The wallet for everything but energy: unpaid, it never cuts a supply (Civil Code 944)."""
    return AccountRef(AccountKind.FIXED_CHARGES_WALLET, tenancy_id)


def balance_fen(kind: AccountKind, *, debited_fen: int, credited_fen: int) -> int:
    """The balance of an account of this kind from all that was debited and credited."""
    if NORMAL_SIDE[kind] is Side.DEBIT:
        return debited_fen - credited_fen
    return credited_fen - debited_fen

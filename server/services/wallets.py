"""The two wallets of a tenancy, as doors name them."""

from server.core.ledger.accounts import AccountKind

AMOUNT_FEN_MAX = 100_000_000  # a million yuan in one go is a slip of the finger
WALLETS = {
    "electricity": AccountKind.ELECTRICITY_WALLET,
    "fixed_charges": AccountKind.FIXED_CHARGES_WALLET,
}

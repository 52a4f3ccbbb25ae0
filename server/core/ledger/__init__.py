"""The ledger: accounts, transfers, and what every business event does to them."""

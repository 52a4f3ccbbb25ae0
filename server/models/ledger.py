"""The journal: append-only, one writer (services/journal), proved by `mallwatt audit`."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.sites import Site, Tenancy
from server.models.table import Table


class Account(Model, metaclass=Table):
    """An account of core/ledger/accounts; a wallet kind has a tenancy, others have none."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    kind = fields.CharField(32)
    tenancy: fields.ForeignKeyNullableRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )

    class Meta:
        app = "mallwatt"
        table = "account"


class Wallet(Model, metaclass=Table):
    """A wallet's balance: the journal's projection, written by the posting statement alone."""

    account: fields.OneToOneRelation[Account] = fields.OneToOneField(
        "mallwatt.Account", related_name=False, primary_key=True, on_delete=OnDelete.RESTRICT
    )
    balance_fen = fields.BigIntField(default=0)

    class Meta:
        app = "mallwatt"
        table = "wallet"


class LedgerTransaction(Model, metaclass=Table):
    """One business event; the same key and input is posted once, another input is refused."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    flow = fields.CharField(48)
    idempotency_key = fields.CharField(160)
    input_hash = fields.CharField(64)
    booked_at = fields.DatetimeField()
    created_at = fields.DatetimeField()
    details: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "ledger_transaction"
        unique_together = (("site", "idempotency_key"),)


class LedgerTransfer(Model, metaclass=Table):
    """One debit account, one credit account, one positive amount: it cannot be unbalanced.

    What it names is looked at by the statement (migration 0003), not by foreign keys row by row.
    """

    id = fields.BigIntField(primary_key=True)
    transaction: fields.ForeignKeyRelation[LedgerTransaction] = fields.ForeignKeyField(
        "mallwatt.LedgerTransaction",
        related_name=False,
        on_delete=OnDelete.RESTRICT,
        db_constraint=False,
    )
    debit_account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "mallwatt.Account", related_name=False, on_delete=OnDelete.RESTRICT, db_constraint=False
    )
    credit_account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "mallwatt.Account", related_name=False, on_delete=OnDelete.RESTRICT, db_constraint=False
    )
    amount_fen = fields.BigIntField()

    class Meta:
        app = "mallwatt"
        table = "ledger_transfer"
        indexes = (
            Index(fields=("debit_account_id", "id"), name="idx_transfer_debit"),
            Index(fields=("credit_account_id", "id"), name="idx_transfer_credit"),
            Index(fields=("transaction_id",), name="idx_transfer_transaction"),
        )


class DeskReceipt(Model, metaclass=Table):
    """Money taken at the desk or by bank transfer; a receipt's number is good for one payment."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    receipt_no = fields.CharField(64)
    tenancy: fields.ForeignKeyRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, on_delete=OnDelete.RESTRICT
    )
    wallet = fields.CharField(32)
    method = fields.CharField(16)
    amount_fen = fields.BigIntField()
    taken_by = fields.CharField(64)
    created_at = fields.DatetimeField()
    ledger_transaction: fields.ForeignKeyRelation[LedgerTransaction] = fields.ForeignKeyField(
        "mallwatt.LedgerTransaction", related_name=False, on_delete=OnDelete.RESTRICT
    )

    class Meta:
        app = "mallwatt"
        table = "desk_receipt"
        unique_together = (("site", "receipt_no"),)

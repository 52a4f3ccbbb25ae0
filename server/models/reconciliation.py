"""What was compared with the platforms' bills, day by day, and what differed."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.payments import PaymentCase
from server.models.sites import Site
from server.models.table import Table


class ReconciliationDay(Model, metaclass=Table):
    """A merchant's Chinese day: its bill, the sums of both sides, and how far comparing got.

    The bill was fetched where there is a `fetched_at`; compared, and each difference cured or
    shown, where there is a `finished_at`; `problem` is why the last try did not get there.
    """

    id = fields.BigIntField(primary_key=True)
    platform = fields.CharField(16)
    merchant_id = fields.CharField(32)
    day = fields.DateField()
    digest = fields.CharField(64, null=True)
    tried_at = fields.DatetimeField()
    fetched_at = fields.DatetimeField(null=True)
    changed_at = fields.DatetimeField(null=True)
    finished_at = fields.DatetimeField(null=True)
    problem = fields.CharField(64, null=True)
    bill_payments = fields.IntField(default=0)
    bill_payments_fen = fields.BigIntField(default=0)
    bill_refunds = fields.IntField(default=0)
    bill_refunds_fen = fields.BigIntField(default=0)
    our_payments = fields.IntField(default=0)
    our_payments_fen = fields.BigIntField(default=0)
    our_refunds = fields.IntField(default=0)
    our_refunds_fen = fields.BigIntField(default=0)

    class Meta:
        app = "mallwatt"
        table = "reconciliation_day"
        unique_together = (("platform", "merchant_id", "day"),)


class BillLine(Model, metaclass=Table):
    """A line of a fetched bill; `our_number` names what it was matched with."""

    id = fields.BigIntField(primary_key=True)
    day: fields.ForeignKeyRelation[ReconciliationDay] = fields.ForeignKeyField(
        "mallwatt.ReconciliationDay", related_name=False, on_delete=OnDelete.CASCADE
    )
    line = fields.IntField()
    way = fields.CharField(16)
    number = fields.CharField(64)
    out_trade_no = fields.CharField(64)
    transaction_id = fields.CharField(64)
    amount_fen = fields.BigIntField()
    fee_fen = fields.BigIntField()
    at = fields.DatetimeField()
    status = fields.CharField(16, null=True)
    our_number = fields.CharField(64, null=True)

    class Meta:
        app = "mallwatt"
        table = "bill_line"
        unique_together = (("day", "line"),)
        indexes = (
            Index(fields=("number",), name="idx_bill_line_number"),
            Index(fields=("our_number",), name="idx_bill_line_our"),
        )


class ReconciliationDifference(Model, metaclass=Table):
    """What differed of a day: cured, or else shown; settled where its case is closed."""

    id = fields.BigIntField(primary_key=True)
    day: fields.ForeignKeyRelation[ReconciliationDay] = fields.ForeignKeyField(
        "mallwatt.ReconciliationDay", related_name=False, on_delete=OnDelete.RESTRICT
    )
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    finding = fields.CharField(32)
    number = fields.CharField(64)
    out_trade_no = fields.CharField(64)
    our_fen = fields.BigIntField(null=True)
    our_state = fields.CharField(16, null=True)
    bill_fen = fields.BigIntField(null=True)
    bill_state = fields.CharField(16, null=True)
    answer = fields.CharField(16)
    case: fields.ForeignKeyNullableRelation[PaymentCase] = fields.ForeignKeyField(
        "mallwatt.PaymentCase", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    found_at = fields.DatetimeField()
    cured_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "reconciliation_difference"
        indexes = (Index(fields=("day_id",), name="idx_reconciliation_difference_day"),)

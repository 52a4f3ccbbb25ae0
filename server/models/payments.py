"""Top-ups, the attempts to pay them, the notices about them, and what needs a person."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.people import AppUser
from server.models.sites import Site, Tenancy
from server.models.table import Table


class TopUp(Model, metaclass=Table):
    """What a tenant means to pay in; the four times are the ticks the payer sees."""

    id = fields.BigIntField(primary_key=True)
    no = fields.CharField(32, unique=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    tenancy: fields.ForeignKeyRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, on_delete=OnDelete.RESTRICT
    )
    user: fields.ForeignKeyNullableRelation[AppUser] = fields.ForeignKeyField(
        "mallwatt.AppUser", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    wallet = fields.CharField(32)
    amount_fen = fields.BigIntField()
    status = fields.CharField(16)
    idempotency_key = fields.CharField(100)
    input_hash = fields.CharField(64)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    paid_at = fields.DatetimeField(null=True)
    credited_at = fields.DatetimeField(null=True)
    commanded_at = fields.DatetimeField(null=True)
    confirmed_at = fields.DatetimeField(null=True)
    refunded_fen = fields.BigIntField(default=0)

    class Meta:
        app = "mallwatt"
        table = "top_up"
        unique_together = (("tenancy", "idempotency_key"),)
        indexes = (Index(fields=("status", "expires_at"), name="idx_top_up_status"),)


class PaymentOrder(Model, metaclass=Table):
    """One out_trade_no at one platform for one top-up; one of a method waits at a time.

    `payment`: what the payer was given, when. `client_ip`: a try again has to say the same.
    `transaction_id`: the payment that was credited. `ship_at`: when WeChat is told next that what
    was paid for is there, where the site says so.
    """

    id = fields.BigIntField(primary_key=True)
    top_up: fields.ForeignKeyRelation[TopUp] = fields.ForeignKeyField(
        "mallwatt.TopUp", related_name=False, on_delete=OnDelete.RESTRICT
    )
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    platform = fields.CharField(16)
    merchant_id = fields.CharField(32)
    out_trade_no = fields.CharField(32, unique=True)
    method = fields.CharField(16)
    state = fields.CharField(16)
    payment: fields.Field[dict[str, str] | None] = fields.JSONField(null=True)
    payment_at = fields.DatetimeField(null=True)
    client_ip = fields.CharField(45, null=True)
    created_at = fields.DatetimeField()
    query_at = fields.DatetimeField(null=True)
    queries = fields.IntField(default=0)
    transaction_id = fields.CharField(64, null=True)
    ship_at = fields.DatetimeField(null=True)
    ships = fields.IntField(null=True)
    shipped_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "payment_order"
        indexes = (Index(fields=("ship_at",), name="idx_payment_order_ship"),)


class PaymentNotice(Model, metaclass=Table):
    """The inbox: a verified notice, kept before it is answered (decision 9).

    `trade` is what it says; of a refund where there is an `out_refund_no`, else of a payment.
    """

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    platform = fields.CharField(16)
    merchant_id = fields.CharField(32)
    digest = fields.CharField(64)
    out_trade_no = fields.CharField(64)
    out_refund_no = fields.CharField(64, null=True)
    trade: fields.Field[dict[str, object]] = fields.JSONField()
    content = fields.TextField()
    received_at = fields.DatetimeField()
    settled_at = fields.DatetimeField(null=True)
    outcome = fields.CharField(32, null=True)
    attempts = fields.IntField(default=0)
    try_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "payment_notice"
        unique_together = (("platform", "merchant_id", "digest"),)
        indexes = (Index(fields=("settled_at", "try_at"), name="idx_payment_notice_open"),)


class PaymentCredit(Model, metaclass=Table):
    """A payment that reached the books: once a merchant and transaction id, for ever."""

    id = fields.BigIntField(primary_key=True)
    platform = fields.CharField(16)
    merchant_id = fields.CharField(32)
    transaction_id = fields.CharField(64)
    out_trade_no = fields.CharField(64)
    order: fields.ForeignKeyNullableRelation[PaymentOrder] = fields.ForeignKeyField(
        "mallwatt.PaymentOrder", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    amount_fen = fields.BigIntField()
    paid_at = fields.DatetimeField()
    ledger_transaction_id = fields.BigIntField()

    class Meta:
        app = "mallwatt"
        table = "payment_credit"
        unique_together = (("platform", "merchant_id", "transaction_id"),)


class PaymentCase(Model, metaclass=Table):
    """A payment that no rule may credit by itself: shown to a manager, never lost.

    With a `credit` its money is in suspense. A case that was decided is closed once what was
    decided is done; it is open again where that failed.
    """

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    kind = fields.CharField(32)
    subject = fields.CharField(160)
    facts: fields.Field[dict[str, object]] = fields.JSONField()
    tenancy: fields.ForeignKeyNullableRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    credit: fields.ForeignKeyNullableRelation[PaymentCredit] = fields.ForeignKeyField(
        "mallwatt.PaymentCredit", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    opened_at = fields.DatetimeField()
    decision = fields.CharField(16, null=True)
    decided_by = fields.CharField(64, null=True)
    decided_at = fields.DatetimeField(null=True)
    reason = fields.CharField(200, null=True)
    closed_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "payment_case"
        unique_together = (("site", "kind", "subject"),)


class Refund(Model, metaclass=Table):
    """Money that somebody asked to be given back, from a wallet or (no wallet) from suspense."""

    id = fields.BigIntField(primary_key=True)
    no = fields.CharField(32, unique=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    tenancy: fields.ForeignKeyNullableRelation[Tenancy] = fields.ForeignKeyField(
        "mallwatt.Tenancy", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    wallet = fields.CharField(32, null=True)
    case: fields.ForeignKeyNullableRelation[PaymentCase] = fields.ForeignKeyField(
        "mallwatt.PaymentCase", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    amount_fen = fields.BigIntField()
    reason = fields.CharField(200)
    asked_by = fields.CharField(64)
    approval_no = fields.CharField(32, null=True)
    idempotency_key = fields.CharField(100)
    input_hash = fields.CharField(64)
    status = fields.CharField(16)
    asked_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    started_at = fields.DatetimeField(null=True)
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "refund"
        unique_together = (("site", "idempotency_key"),)
        indexes = (Index(fields=("tenancy_id", "asked_at"), name="idx_refund_tenancy"),)


class RefundPart(Model, metaclass=Table):
    """One try to give part of it back: to one original payment, or by hand (no `credit`)."""

    id = fields.BigIntField(primary_key=True)
    refund: fields.ForeignKeyRelation[Refund] = fields.ForeignKeyField(
        "mallwatt.Refund", related_name=False, on_delete=OnDelete.RESTRICT
    )
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    credit: fields.ForeignKeyNullableRelation[PaymentCredit] = fields.ForeignKeyField(
        "mallwatt.PaymentCredit", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    platform = fields.CharField(16, null=True)
    merchant_id = fields.CharField(32, null=True)
    out_trade_no = fields.CharField(64, null=True)
    out_refund_no = fields.CharField(64, unique=True)
    amount_fen = fields.BigIntField()
    state = fields.CharField(16)
    created_at = fields.DatetimeField()
    try_at = fields.DatetimeField(null=True)
    attempts = fields.IntField(default=0)
    sent_at = fields.DatetimeField(null=True)
    finished_at = fields.DatetimeField(null=True)
    platform_refund_id = fields.CharField(64, null=True)
    code = fields.CharField(64, null=True)
    method = fields.CharField(16, null=True)
    reference = fields.CharField(64, null=True)
    paid_by = fields.CharField(64, null=True)

    class Meta:
        app = "mallwatt"
        table = "refund_part"
        indexes = (
            Index(fields=("try_at",), name="idx_refund_part_due"),
            Index(fields=("credit_id",), name="idx_refund_part_credit"),
            Index(fields=("refund_id",), name="idx_refund_part_refund"),
        )

"""What a site file describes: sites, tariffs, gateways, shops, meters; and who lives in a shop."""

from tortoise import Model, fields
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index

from server.models.table import Table


class Site(Model, metaclass=Table):
    """A mall. `rules_version` changes with every import: by it processes know their rules old.

    `approval` is from which amounts a second person is needed; null: the defaults.
    `shipping_information`: WeChat is told that what was paid for is there, and frees the money.
    `holidays_until` is the last year whose public holidays its closed days were rated with.
    """

    id = fields.BigIntField(primary_key=True)
    code = fields.CharField(32, unique=True)
    name = fields.CharField(100)
    timezone = fields.CharField(64)
    poll_seconds = fields.IntField()
    close_after_days = fields.IntField()
    weixin_templates: fields.Field[dict[str, object]] = fields.JSONField()
    approval: fields.Field[dict[str, int] | None] = fields.JSONField(null=True)
    shipping_information = fields.BooleanField(null=True)
    rules_version = fields.BigIntField(default=0)
    holidays_until = fields.IntField(default=0)
    created_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "site"


class Merchant(Model, metaclass=Table):
    """A site's account at a payment platform; keys stay in files, here are their paths."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    platform = fields.CharField(16)
    merchant_id = fields.CharField(32)
    app_id = fields.CharField(32)
    settings: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "merchant"
        unique_together = (("site", "platform"),)


class SupplyPolicy(Model, metaclass=Table):
    """Rules of warning, disconnecting and reconnecting, as core/supply/policy reads them."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    rules: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "supply_policy"
        unique_together = (("site", "code"),)


class TariffVersion(Model, metaclass=Table):
    """One dated version of a tariff, as core/tariff/parse reads it."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    valid_from = fields.DateField()
    definition: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "tariff_version"
        unique_together = (("site", "code", "valid_from"),)


class FixedChargeVersion(Model, metaclass=Table):
    """One dated version of a fixed charge, as core/tariff/parse reads it."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    valid_from = fields.DateField()
    definition: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "fixed_charge_version"
        unique_together = (("site", "code", "valid_from"),)


class Gateway(Model, metaclass=Table):
    """A physical bus and the way to it; `settings` holds what only its link needs."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    link = fields.CharField(16)
    address = fields.CharField(255, null=True)
    settings: fields.Field[dict[str, object]] = fields.JSONField()
    changed_at = fields.DatetimeField()

    class Meta:
        app = "mallwatt"
        table = "gateway"
        unique_together = (("site", "code"),)


class GatewayLease(Model, metaclass=Table):
    """Who may speak on a gateway's bus; `epoch` grows with each new owner (decision 10)."""

    gateway: fields.OneToOneRelation[Gateway] = fields.OneToOneField(
        "mallwatt.Gateway", related_name=False, primary_key=True, on_delete=OnDelete.CASCADE
    )
    owner = fields.CharField(64, null=True)
    epoch = fields.BigIntField(default=0)
    held_until = fields.DatetimeField(null=True)

    class Meta:
        app = "mallwatt"
        table = "gateway_lease"


class Shop(Model, metaclass=Table):
    """A unit of the mall: meters and the printed QR code belong to it (decision 3)."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    name = fields.CharField(100)
    area_cm2 = fields.BigIntField()
    capacity_va = fields.BigIntField()
    tariff_code = fields.CharField(32)
    supply_policy_code = fields.CharField(32)
    fixed_charges: fields.Field[list[str]] = fields.JSONField()
    supply_protection = fields.BooleanField()
    token = fields.CharField(64, unique=True)

    class Meta:
        app = "mallwatt"
        table = "shop"
        unique_together = (("site", "code"),)


class Tenancy(Model, metaclass=Table):
    """One operator's time in a shop; wallets, top-ups and statements belong to it.

    `first_open_day` is the first local day not yet on a statement, `fixed_open_day` the first one
    whose fixed charges are not yet taken; where that failed, it is not tried before
    `closing_try_at` or `fixed_try_at`. The supply_* columns are the policy's memory of the current
    episode; `decide_again_at` is when time alone changes its answer; `notice_memory` is what was
    told already (core/supply/notices.NoticeFacts). `back_billing_fen` is what was taken for the
    past without a notice of its own yet, `back_billing_at` when last.
    """

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    shop: fields.ForeignKeyRelation[Shop] = fields.ForeignKeyField(
        "mallwatt.Shop", related_name=False, on_delete=OnDelete.RESTRICT
    )
    opened_at = fields.DatetimeField()
    closed_at = fields.DatetimeField(null=True)
    binding_code = fields.CharField(32)
    opening_balance_fen = fields.BigIntField(default=0)
    first_open_day = fields.DateField(null=True)
    fixed_open_day = fields.DateField(null=True)
    fixed_try_at = fields.DatetimeField(null=True)
    closing_try_at = fields.DatetimeField(null=True)
    supply_state = fields.CharField(32, default="connected")
    supply_reasons: fields.Field[list[str]] = fields.JSONField()
    supply_decided_at = fields.DatetimeField(null=True)
    overdrawn_since = fields.DatetimeField(null=True)
    reconnect_confirmed_at = fields.DatetimeField(null=True)
    emergency_credit_fen = fields.BigIntField(default=0)
    emergency_credit_at = fields.DatetimeField(null=True)
    back_billing_fen = fields.BigIntField(default=0)
    back_billing_at = fields.DatetimeField(null=True)
    decide_again_at = fields.DatetimeField(null=True)
    notice_memory: fields.Field[dict[str, object]] = fields.JSONField()

    class Meta:
        app = "mallwatt"
        table = "tenancy"
        indexes = (
            Index(fields=("shop_id", "closed_at"), name="idx_tenancy_shop"),
            Index(fields=("decide_again_at",), name="idx_tenancy_decide"),
        )


class Meter(Model, metaclass=Table):
    """A meter on a bus. `max_power_w`, `rollover_wh`, `has_relay`: from its profile at import."""

    id = fields.BigIntField(primary_key=True)
    site: fields.ForeignKeyRelation[Site] = fields.ForeignKeyField(
        "mallwatt.Site", related_name=False, on_delete=OnDelete.RESTRICT
    )
    code = fields.CharField(32)
    gateway: fields.ForeignKeyRelation[Gateway] = fields.ForeignKeyField(
        "mallwatt.Gateway", related_name=False, on_delete=OnDelete.RESTRICT
    )
    unit = fields.IntField(null=True)
    address = fields.CharField(32, null=True)
    profile = fields.CharField(64)
    transformer_ratio = fields.IntField()
    role = fields.CharField(16)
    shop: fields.ForeignKeyNullableRelation[Shop] = fields.ForeignKeyField(
        "mallwatt.Shop", related_name=False, null=True, on_delete=OnDelete.RESTRICT
    )
    identity = fields.CharField(64, null=True)
    max_power_w = fields.BigIntField(null=True)
    rollover_wh = fields.BigIntField()
    has_relay = fields.BooleanField()

    class Meta:
        app = "mallwatt"
        table = "meter"
        unique_together = (("site", "code"),)
        indexes = (
            Index(fields=("gateway_id",), name="idx_meter_gateway"),
            Index(fields=("shop_id",), name="idx_meter_shop"),
        )
